"""What `python -m registry gc` does: free this node's disk of copies that nobody needs; never of one in use."""

import shutil
import tempfile
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from compiler.collection import Removed, collect_copies, size_of
from compiler.lease import Lease
from compiler.settings import CompilerSettings
from components.reference import ComponentRef
from registry.errors import RegistryError
from registry.local.lock import locked
from registry.settings import RegistrySettings

MOST_COMPONENT_BYTES = 20_000_000_000
# a replica that starts again finds its component still
_JUST_USED_S = 600.0
_DIGEST_CHARACTERS = 64


@dataclass(frozen=True, slots=True)
class Collected:
    """What was removed, of the checked copies of components and of the compiled ones, and the bytes that stay."""

    components: tuple[Removed, ...]
    compiled: tuple[Removed, ...]
    component_bytes: int
    compiled_bytes: int

    @property
    def bytes_freed(self) -> int:
        """The size of all that was removed."""
        return sum(removed.bytes_freed for removed in (*self.components, *self.compiled))


def hold(ref: ComponentRef, settings: RegistrySettings) -> Lease | None:
    """Tell `collect` that this process uses a component's copy, until the lease is gone; None where that is not said.

    It is not where the folder cannot be written; `collect` then goes by when the copy came.
    """
    file = _lease_file(settings.cache, ref.sha256)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch(mode=0o644)
    except OSError:
        # of another user, perhaps, which can be locked all the same
        pass
    lease = Lease.shared(file)
    if lease is not None:
        lease.touch()
    return lease


def collect(
    settings: RegistrySettings,
    compiler: CompilerSettings,
    keep: Collection[str],
    most_component_bytes: int = MOST_COMPONENT_BYTES,
    *,
    whole: bool = False,
) -> Collected:
    """Remove the longest unused copies of components beyond the bound, dead downloads, and compiled copies of no use.

    `keep` holds the digests of components that stay whatever they take: those that aliases point at, say. A component
    that a process holds, or that was used within ten minutes, stays too. Of the compiled copies go those whose
    component is gone, those of another ONNX Runtime or CPU, damaged ones (every byte is read with `whole`), and the
    longest unused beyond their own bound.

    Raises:
        RegistryError: a folder cannot be read or written.
    """
    try:
        removed = tuple(_collect_components(settings.cache, keep, most_component_bytes))
        left = _components(settings.cache)
        compiled = tuple(collect_copies(compiler, {path.name for path in left}, whole=whole))
        compiled_bytes = size_of(compiler.folder) if compiler.folder.is_dir() else 0
        return Collected(removed, compiled, sum(map(size_of, left)), compiled_bytes)
    except OSError as error:
        raise RegistryError(f"the copies cannot be collected: {error.strerror or type(error).__name__}") from None


def _collect_components(cache: Path, keep: Collection[str], most_bytes: int) -> Iterator[Removed]:
    yield from _leftovers(cache)
    sizes = {path: size_of(path) for path in _components(cache)}
    total = sum(sizes.values())
    for path in sorted(sizes, key=_used):
        if total <= most_bytes:
            return
        if path.name not in keep and _remove(path):
            total -= sizes[path]
            yield Removed(path.name, sizes[path], "the longest unused")


def _components(cache: Path) -> list[Path]:
    if not cache.is_dir():
        return []
    return sorted(path for path in cache.iterdir() if len(path.name) == _DIGEST_CHARACTERS and path.is_dir())


def _leftovers(cache: Path) -> Iterator[Removed]:
    for path in cache.glob(".*-*"):
        digest = path.name[1 : 1 + _DIGEST_CHARACTERS]
        try:
            with locked(cache / f"{digest}.lock", wait_s=0):
                size = size_of(path)
                shutil.rmtree(path, ignore_errors=True)
        except (RegistryError, FileNotFoundError):
            # a download is under way, or another process was quicker
            continue
        yield Removed(path.name, size, "left by a download that died")


def _remove(path: Path) -> bool:
    """Remove a component that nobody uses; False where somebody does, did of late, or is about to have it here."""
    file = _lease_file(path.parent, path.name)
    if time.time() - _used(path) < _JUST_USED_S:
        return False
    lease = Lease.alone(file)
    if lease is None and file.exists():
        return False
    try:
        with locked(path.parent / f"{path.name}.lock", wait_s=0):
            away = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
            # renamed first, so that nobody finds half of it
            path.rename(away / "removed")
            file.unlink(missing_ok=True)
            file.with_suffix(".verified").unlink(missing_ok=True)
            shutil.rmtree(away, ignore_errors=True)
    except (RegistryError, FileNotFoundError):
        return False
    finally:
        if lease is not None:
            lease.release()
    return True


def _used(path: Path) -> float:
    """When a component was last used, on the clock of `time.time`: by its lease, or else when it came."""
    for file in (_lease_file(path.parent, path.name), path):
        try:
            return file.stat().st_mtime
        except FileNotFoundError:
            continue
    return 0.0


def _lease_file(cache: Path, digest: str) -> Path:
    return cache / f"{digest}.lease"
