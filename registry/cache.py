"""Checked copies of components on this machine, by digest; nothing here knows MLflow."""

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from components.errors import ComponentError
from components.folder import ComponentFolder
from components.reference import ComponentRef
from registry.errors import RegistryError
from registry.lock import locked


class ComponentCache:
    """A folder of component folders, each named by its digest.

    Every hit checks the digest of the manifest and the size of every file (well under a millisecond); the first hit of
    a component in this object's life, so in a process, also the sha256 of every file (about a second per gigabyte).
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._verified: set[str] = set()

    def get(self, ref: ComponentRef) -> Path | None:
        """The copy of a component, or None where there is none that is whole."""
        path = self._folder / ref.sha256
        try:
            self._check(path, ref)
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
        for left in self._folder.glob(f".{ref.sha256}-*"):  # of a process that died: we hold the lock
            shutil.rmtree(left)
        work = Path(tempfile.mkdtemp(prefix=f".{ref.sha256}-", dir=self._folder))
        try:
            fresh = work / "component"
            fresh.mkdir()
            fill(fresh)
            self._check(fresh, ref)
            _open_to_all(fresh)
            final = self._folder / ref.sha256
            if os.path.lexists(final):  # damaged; who has opened it keeps what it has
                final.rename(work / "damaged")
            fresh.rename(final)
        except ComponentError as error:
            raise RegistryError(f"{ref}: what the registry holds is damaged and was not kept: {error}") from None
        except OSError as error:
            raise RegistryError(f"{ref}: the cache {self._folder} cannot be written: {error.strerror}") from None
        finally:
            shutil.rmtree(work, ignore_errors=True)
        return final

    def _check(self, path: Path, ref: ComponentRef) -> None:
        folder = ComponentFolder.open(path)
        if folder.digest != ref.sha256:
            raise ComponentError(f"its digest is {folder.digest}, not {ref.sha256}")
        if ref.sha256 not in self._verified:
            folder.verify()
            self._verified.add(ref.sha256)


def _open_to_all(folder: Path) -> None:
    """Readable by every user: exporters and MLflow write some files that only their owner may read."""
    folder.chmod(0o755)
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
