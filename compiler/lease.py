"""Who uses a folder now: a shared lock on a file, held from its first use to its last in each process that uses it.

A process that dies gives its leases back. When the folder was last used shows in the file's time of change.
"""

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import Self


class Lease:
    """One use of what a lease file stands for, until the object is gone or `release` is called."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor

    @classmethod
    def shared(cls, file: Path) -> Self | None:
        """Use it, beside others; None where the file is not there or somebody is about to remove what it stands for."""
        return cls._take(file, fcntl.LOCK_SH)

    @classmethod
    def alone(cls, file: Path) -> Self | None:
        """Have it alone, to remove it; None where the file is not there or somebody uses what it stands for."""
        return cls._take(file, fcntl.LOCK_EX)

    @classmethod
    def _take(cls, file: Path, operation: int) -> Self | None:
        try:
            lease = cls(os.open(file, os.O_RDONLY))
        except OSError:
            return None
        try:
            fcntl.flock(lease.descriptor, operation | fcntl.LOCK_NB)
        except OSError:
            lease.release()
            return None
        # between opening and locking, the file may have been removed or replaced
        if not lease.is_of(file):
            lease.release()
            return None
        return lease

    @property
    def descriptor(self) -> int:
        """The open file's."""
        assert self._descriptor is not None, "a lease that was given back"
        return self._descriptor

    def is_of(self, file: Path) -> bool:
        """Whether that file is still the one that was locked."""
        try:
            return os.path.samestat(os.fstat(self.descriptor), file.stat())
        except OSError:
            return False

    def touch(self) -> None:
        """Note that it is used now; that of another user stays as it is."""
        with suppress(PermissionError):
            os.utime(self.descriptor)

    def release(self) -> None:
        """Give it back; doing so twice is no fault."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __del__(self) -> None:
        self.release()
