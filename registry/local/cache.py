"""Checked copies of components on this machine, by digest; nothing here knows MLflow."""

import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from pydantic import ValidationError

from components.errors import ComponentError
from components.folder import ComponentFolder
from components.manifest import Sha256
from components.record import Record
from components.reference import ComponentRef
from registry.errors import RegistryError
from registry.local.lock import locked


class _Verified(Record):
    """The digest of a component whose every byte was read, and what its files were then: size and time of change."""

    component: Sha256
    files: dict[str, tuple[int, int]]


class ComponentCache:
    """A folder of component folders, each named by its digest.

    Every hit checks the digest of the manifest and the size of every file (well under a millisecond). The sha256 of
    every file (about a second per gigabyte) is checked once on a node: `DIGEST.verified` beside the component then says
    which files were read, in which size and of which time of change, and the first hit in this object's life, so in a
    process, believes it while they are the same. So a truncated, rewritten, added or missing file is found at that hit.
    What was changed in place, in the same size and with the time of change put back, is not found there.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._verified: set[str] = set()

    def get(self, ref: ComponentRef) -> Path | None:
        """The copy of a component, or None where there is none that is whole."""
        path = self._folder / ref.sha256
        try:
            folder = _open(path, ref)
            if ref.sha256 not in self._verified:
                self._verify_once(folder, ref)
        except ComponentError:
            return None
        return path

    def add(self, ref: ComponentRef, fill: Callable[[Path], None]) -> Path:
        """The copy of a component; where there is none, or a damaged one, `fill` writes it into an empty folder.

        Processes that want the same component wait for the first one and share its copy.

        Raises:
            RegistryError: what `fill` wrote is not that component (it is removed), or the disk cannot be written.
        """
        with locked(self._folder / f"{ref.sha256}.lock"):
            found = self.get(ref)
            return self._fill(ref, fill) if found is None else found

    def _fill(self, ref: ComponentRef, fill: Callable[[Path], None]) -> Path:
        self._verified.discard(ref.sha256)
        work: Path | None = None
        try:
            for left in self._folder.glob(f".{ref.sha256}-*"):  # of a process that died: we hold the lock
                shutil.rmtree(left)
            work = Path(tempfile.mkdtemp(prefix=f".{ref.sha256}-", dir=self._folder))
            fresh = work / "component"
            fresh.mkdir()
            fill(fresh)
            verified = _verify(_open(fresh, ref))
            _open_to_all(fresh)
            final = self._folder / ref.sha256
            if os.path.lexists(final):  # damaged; who has opened it keeps what it has
                final.rename(work / "damaged")
            fresh.rename(final)
            self._note(verified)
        except ComponentError as error:
            raise RegistryError(f"{ref}: what the registry holds is damaged and was not kept: {error}") from None
        except OSError as error:
            raise RegistryError(f"{ref}: the cache {self._folder} cannot be written: {error.strerror}") from None
        finally:
            if work is not None:
                shutil.rmtree(work, ignore_errors=True)
        return final

    def _verify_once(self, folder: ComponentFolder, ref: ComponentRef) -> None:
        """Believe the record of the last time while nothing has changed since; else read everything."""
        with suppress(OSError, ValidationError):
            record = _Verified.model_validate_json(self._record(ref.sha256).read_bytes(), strict=True)
            if record == _look(folder):
                self._verified.add(ref.sha256)
                return
        self._note(_verify(folder))

    def _note(self, verified: _Verified) -> None:
        self._verified.add(verified.component)
        # Where it cannot be written, the next process reads everything again; so it does where half of it is found.
        with suppress(OSError):
            self._record(verified.component).write_text(verified.model_dump_json(), encoding="utf-8")

    def _record(self, digest: str) -> Path:
        return self._folder / f"{digest}.verified"


def _open(path: Path, ref: ComponentRef) -> ComponentFolder:
    folder = ComponentFolder.open(path)
    if folder.digest != ref.sha256:
        raise ComponentError(f"its digest is {folder.digest}, not {ref.sha256}")
    return folder


def _verify(folder: ComponentFolder) -> _Verified:
    # looked at first: what changes while it is read does not match the next time
    try:
        verified = _look(folder)
    except OSError as error:
        raise ComponentError(f"{folder.path.name}: cannot be read: {type(error).__name__}") from None
    folder.verify()
    return verified


def _look(folder: ComponentFolder) -> _Verified:
    """What a component's files are now, its manifest and any that it does not list among them."""
    stats = {file: file.lstat() for file in folder.path.rglob("*") if file.is_symlink() or not file.is_dir()}
    files = {file.relative_to(folder.path).as_posix(): (stat.st_size, stat.st_mtime_ns) for file, stat in stats.items()}
    return _Verified(component=folder.digest, files=files)


def _open_to_all(folder: Path) -> None:
    """Readable by every user: exporters and MLflow write some files that only their owner may read."""
    folder.chmod(0o755)
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
