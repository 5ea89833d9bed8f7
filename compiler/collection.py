"""Removes compiled copies: those that are of no use any more, and the longest unused of too many; never one in use."""

import os
import shutil
import tempfile
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock, Timeout

from compiler.errors import CompilerError
from compiler.lease import Lease
from compiler.record import LEASE_NAME, CopyRecord, check, read_record, verify
from compiler.settings import CompilerSettings

# a replica that starts again, or is on its way from finding a copy to opening it, finds it still
_JUST_USED_S = 600.0
_FAILED_LONG_AGO_S = 24 * 3600.0
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


def make_room(settings: CompilerSettings, needed: int) -> bool:
    """Remove the longest unused copies until `needed` bytes fit under the bound; False where they do not fit.

    Raises:
        OSError: the folder cannot be read or written.
    """
    if needed > settings.most_bytes:
        return False
    _longest_unused(settings, needed)
    return _total(settings.folder) + needed <= settings.most_bytes


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
    return sum(copy.record.bytes_on_disk for copy in _copies(folder))


def _copies(folder: Path) -> Iterator[Copy]:
    for path in _paths(folder):
        try:
            yield Copy(path, read_record(path), (path / LEASE_NAME).stat().st_mtime)
        except (CompilerError, FileNotFoundError):
            continue


def _paths(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if len(path.name) == _KEY_CHARACTERS and path.is_dir())


def _broken(folder: Path, whole: bool) -> Iterator[Removed]:
    for path in _paths(folder):
        try:
            verify(path) if whole else check(path)
        except CompilerError as error:
            # in use or not: nobody will find it whole, and who has opened it keeps what it has
            yield from _remove(path, f"damaged: {error}", in_use=True)


def _leftovers(folder: Path) -> Iterator[Removed]:
    """What builds that died have left, and the marks of those that failed long ago."""
    for path in folder.glob(".*-*"):
        key = path.name[1 : 1 + _KEY_CHARACTERS]
        try:
            with FileLock(folder / f"{key}.lock", timeout=0):
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


def _remove(path: Path, reason: str, *, in_use: bool = False) -> list[Removed]:
    """Remove a copy, and say so; nothing where it is used, was of late, or is gone already."""
    lease = None if in_use else _idle(path)
    if lease is None and not in_use:
        return []
    try:
        size = size_of(path)
        # renamed first, so that nobody finds half of it
        away = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
        path.rename(away / "removed")
        shutil.rmtree(away, ignore_errors=True)
    except FileNotFoundError:
        return []
    finally:
        if lease is not None:
            lease.release()
    return [Removed(path.name, size, reason)]
