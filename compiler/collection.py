"""Removes compiled copies that are of no use any more, and the longest unused of too many; makes room for a new one.

A build lies in a folder `.KEY-*` until it is whole, as does what is being removed. Only who holds the lock of the key
puts something under it or takes it away. What a build will take is written down in its folder, and all count it.
"""

import os
import shutil
import tempfile
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock, Timeout

from compiler.errors import CompilerError, NoRoomError
from compiler.lease import Lease
from compiler.record import LEASE_NAME, CopyRecord, check, read_record, verify
from compiler.settings import CompilerSettings

# a replica that starts again, or is on its way from finding a copy to opening it, finds it still
_JUST_USED_S = 600.0
_FAILED_LONG_AGO_S = 24 * 3600.0
# to remove some gigabytes; nothing is built under the lock of the folder
_ROOM_WITHIN_S = 60.0
_RESERVED_NAME = "reserved"
_KEY_CHARACTERS = 64


@dataclass(frozen=True, slots=True)
class Removed:
    """One thing that was removed, its size in bytes and why."""

    name: str
    bytes_freed: int
    reason: str


class Copy(NamedTuple):
    """A copy on the disk: its folder, its record, and seconds of `time.time` when it was last used."""

    path: Path
    record: CopyRecord
    used: float


class _Build(NamedTuple):
    """A build under way: the bytes that it will take, or those on the disk where they are more, and those to come."""

    size: int
    to_come: int


def key_lock(folder: Path, key: str, wait_s: float = 0) -> FileLock:
    """The lock of who puts a copy under a key, or takes one away; entering it raises Timeout where another has it."""
    return FileLock(folder / f"{key}.lock", timeout=wait_s)


def collect_copies(
    settings: CompilerSettings, components: Collection[str] | None = None, *, whole: bool = False
) -> list[Removed]:
    """Remove what cannot be used here: leftovers, damaged copies, and those of another ONNX Runtime or CPU.

    With `components`, digests, also the copies of all others; then the longest unused beyond the bound. With `whole`,
    every byte of what stays is read. What is in use, or was within ten minutes, stays.

    Raises:
        OSError: the folder cannot be read or written.
    """
    if not settings.folder.is_dir():
        return []
    removed = [*_leftovers(settings.folder), *_broken(settings.folder, whole)]
    for copy in _copies(settings.folder):
        if not copy.record.usable:
            removed += _remove(copy.path, "of another ONNX Runtime or CPU")
        elif components is not None and copy.record.component not in components:
            removed += _remove(copy.path, "its component is gone")
    return removed + _longest_unused(settings, 0)


def require_room(settings: CompilerSettings, needed: int) -> None:
    """Refuse a copy of `needed` bytes that would not fit even if all unused ones were removed; no copy is.

    Raises:
        NoRoomError: it does not fit, on the disk or under the bound, beside the copies in use and the builds under way.
        OSError: the folder cannot be read or written.
    """
    for _ in _leftovers(settings.folder):
        pass
    builds = _builds(settings.folder)
    free = shutil.disk_usage(settings.folder).free - sum(build.to_come for build in builds)
    if free - needed < settings.min_free_bytes:
        raise NoRoomError(f"{free} bytes are free; a copy takes about {needed}")
    staying = sum(copy.record.bytes_on_disk for copy in _copies(settings.folder) if not _removable(copy.path))
    if staying + sum(build.size for build in builds) + needed > settings.most_bytes:
        raise NoRoomError(f"about {needed} bytes do not fit beside the copies in use")


def reserve(settings: CompilerSettings, key: str, needed: int) -> Path:
    """A folder to build a copy in, whose bytes others count from now on; the longest unused copies make room for it.

    Who holds the lock of the key calls this, and removes the folder.

    Raises:
        NoRoomError: it does not fit; most likely nothing was removed.
        OSError: the folder cannot be read or written.
    """
    try:
        with FileLock(settings.folder / "room.lock", timeout=_ROOM_WITHIN_S):
            require_room(settings, needed)
            _longest_unused(settings, needed)
            if _total(settings.folder) + needed > settings.most_bytes:
                raise NoRoomError(f"about {needed} bytes do not fit beside the copies in use")
            work = Path(tempfile.mkdtemp(prefix=f".{key}-", dir=settings.folder))
            (work / _RESERVED_NAME).write_text(str(needed))
            return work
    except Timeout:
        raise NoRoomError(f"another process has been making room for {_ROOM_WITHIN_S:g} s") from None


def take_away(copy: Path) -> int:
    """Remove what lies under a key, whose lock the caller holds, and say its size; who has it open keeps what it has.

    Raises:
        OSError: it is gone, or cannot be removed.
    """
    size = size_of(copy)
    away = Path(tempfile.mkdtemp(prefix=f".{copy.name}-", dir=copy.parent))
    try:
        # renamed first, so that nobody finds half of it
        copy.rename(away / "removed")
    finally:
        shutil.rmtree(away, ignore_errors=True)
    return size


def size_of(path: Path) -> int:
    """The bytes of a file, or of all files below a folder."""
    if not path.is_dir():
        return path.lstat().st_size
    return sum(file.lstat().st_size for file in path.rglob("*") if not file.is_dir())


def _longest_unused(settings: CompilerSettings, needed: int) -> list[Removed]:
    copies = sorted(_copies(settings.folder), key=lambda copy: copy.used)
    total = _total(settings.folder)
    removed: list[Removed] = []
    for copy in copies:
        if total + needed <= settings.most_bytes:
            break
        gone = _remove(copy.path, "the longest unused")
        total -= sum(each.bytes_freed for each in gone)
        removed += gone
    return removed


def _total(folder: Path) -> int:
    copies = sum(copy.record.bytes_on_disk for copy in _copies(folder))
    return copies + sum(build.size for build in _builds(folder))


def _builds(folder: Path) -> list[_Build]:
    return [_build(path) for path in folder.glob(".*-*")]


def _build(path: Path) -> _Build:
    try:
        reserved = int((path / _RESERVED_NAME).read_text())
    except (OSError, ValueError):
        # on its way out, or that of a process that died
        reserved = 0
    try:
        written = size_of(path)
    except FileNotFoundError:
        written = 0
    return _Build(max(reserved, written), max(reserved - written, 0))


def _copies(folder: Path) -> Iterator[Copy]:
    for path in _paths(folder):
        try:
            yield Copy(path, read_record(path), (path / LEASE_NAME).stat().st_mtime)
        except (CompilerError, FileNotFoundError):
            continue


def _paths(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if len(path.name) == _KEY_CHARACTERS and path.is_dir())


def _broken(folder: Path, whole: bool) -> Iterator[Removed]:
    """Damaged copies, in use or not: nobody will find one whole, and who has opened it keeps what it has."""
    for path in _paths(folder):
        if _damage(path, whole) is None:
            continue
        try:
            with key_lock(folder, path.name):
                # looked at again: another process may have made it anew
                if (damage := _damage(path, whole)) is not None:
                    yield Removed(path.name, take_away(path), f"damaged: {damage}")
        except (Timeout, FileNotFoundError):
            continue


def _damage(path: Path, whole: bool) -> str | None:
    try:
        verify(path) if whole else check(path)
    except CompilerError as error:
        return str(error)
    return None


def _leftovers(folder: Path) -> Iterator[Removed]:
    """What builds that died have left, and the marks of those that failed long ago."""
    for path in folder.glob(".*-*"):
        key = path.name[1 : 1 + _KEY_CHARACTERS]
        try:
            with key_lock(folder, key):
                size = size_of(path)
                shutil.rmtree(path, ignore_errors=True)
                yield Removed(path.name, size, "left by a build that died")
        except (Timeout, FileNotFoundError):
            continue
    for path in folder.glob("*.failed"):
        if time.time() - path.stat().st_mtime > _FAILED_LONG_AGO_S:
            path.unlink(missing_ok=True)


def _idle(path: Path) -> Lease | None:
    """Have a copy alone that was not used of late."""
    lease = Lease.alone(path / LEASE_NAME)
    if lease is not None and time.time() - os.fstat(lease.descriptor).st_mtime < _JUST_USED_S:
        lease.release()
        return None
    return lease


def _removable(path: Path) -> bool:
    lease = _idle(path)
    if lease is not None:
        lease.release()
    return lease is not None


def _remove(path: Path, reason: str) -> list[Removed]:
    """Remove a copy, and say so; nothing where it is used, was of late, is being made again, or is gone already."""
    try:
        with key_lock(path.parent, path.name):
            lease = _idle(path)
            if lease is None:
                return []
            try:
                return [Removed(path.name, take_away(path), reason)]
            finally:
                lease.release()
    except (Timeout, FileNotFoundError):
        return []
