"""Locks between processes of one machine, as files; a process that dies gives its locks back."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from registry.errors import RegistryError

# Longer than anyone uploads or downloads one component; it bounds the wait for a process that hangs.
WAIT_S = 1800.0


@contextmanager
def locked(file: Path, wait_s: float = WAIT_S) -> Iterator[None]:
    """Hold the lock `file` for the length of a block; the same thread may hold it already.

    Raises:
        RegistryError: another process keeps it longer than `wait_s` seconds, or its folder cannot be written.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        # A singleton, so that a block inside a block of the same thread does not wait for itself.
        lock = FileLock(file, is_singleton=True)
        lock.acquire(timeout=wait_s)
    except Timeout:
        raise RegistryError(f"another process has kept the lock {file.name} for {wait_s:g} s") from None
    except OSError as error:
        raise RegistryError(f"the folder {file.parent} cannot be used: {error.strerror}") from None
    try:
        yield
    finally:
        lock.release()
