"""Where keys come from: a file that is read again when it changes, or the settings."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from services.errors import StartError
from services.keys.keyring import Keyring
from services.keys.records import KeyRecord, read_records
from services.keys.settings import KeyLimits, KeySettings

_log = logging.getLogger("ray.serve")

LOOK_S = 1.0
_MOST_BYTES = 2**20


class _Stamp(NamedTuple):
    """What tells one content of a file from the next without reading it."""

    modified_ns: int
    size: int
    inode: int
    device: int


class KeyFile:
    """A file of keys; `limits` are those of keys without their own. Used from one thread at a time."""

    def __init__(self, path: Path, limits: KeyLimits) -> None:
        self._path = path
        self._limits = limits
        self._read: _Stamp | None = None
        self._seen: _Stamp | None = None

    def read(self) -> tuple[KeyRecord, ...]:
        """The file's keys as they are now.

        Raises:
            StartError: it cannot be read, or a line of it is no key's.
        """
        self._read = self._seen = self._stamp()
        return self._records()

    def news(self) -> tuple[KeyRecord, ...] | None:
        """The file's keys, where it is another since it was read and was left alone since the last look; else None.

        Whoever writes it in place may be in the middle of it, and half of a file may look whole.

        Raises:
            StartError: it cannot be read, or a line of it is no key's.
        """
        seen, self._seen = self._seen, self._stamp()
        if self._seen == self._read or self._seen != seen:
            return None
        self._read = self._seen
        return self._records()

    def _stamp(self) -> _Stamp | None:
        try:
            # Kubernetes puts another file in place by a link, which this follows
            found = self._path.stat()
        except OSError:
            return None
        return _Stamp(found.st_mtime_ns, found.st_size, found.st_ino, found.st_dev)

    def _records(self) -> tuple[KeyRecord, ...]:
        try:
            with self._path.open("rb") as file:
                content = file.read(_MOST_BYTES + 1)
        except OSError as error:
            # the same file may be readable again
            self._read = None
            raise StartError(f"keys.file: cannot be read: {error.strerror}") from None
        if len(content) > _MOST_BYTES:
            raise StartError(f"keys.file: must have at most {_MOST_BYTES} bytes")
        try:
            return read_records(content.decode("utf-8"), self._limits)
        except UnicodeDecodeError as error:
            line = content.count(b"\n", 0, error.start) + 1
            raise StartError(f"keys.file: line {line}: is not UTF-8") from None
        except StartError as error:
            raise StartError(f"keys.file: {error.message}") from None


class KeySource:
    """The keys of the settings, and of their file whatever becomes of it."""

    def __init__(self, settings: KeySettings) -> None:
        """Read the keys; `keyring` is None where none are asked for.

        Raises:
            StartError: they cannot be read.
        """
        self._file = None if settings.file is None else KeyFile(settings.file, settings.limits)
        self._refused: str | None = None
        self.keyring = self._open(settings)

    async def follow(self, told: Callable[[int, bool], object], look_s: float = LOOK_S) -> None:
        """Look for another file, for ever; `told` hears how many keys there are and whether the newest file is refused.

        A file that cannot be read leaves the keys before in place.
        """
        self._tell(told, refused=False)
        while True:
            await asyncio.sleep(look_s)
            await self.look(told)

    async def look(self, told: Callable[[int, bool], object]) -> None:
        """Look once whether there is another file."""
        if self._file is None or self.keyring is None:
            return
        try:
            records = await asyncio.to_thread(self._file.news)
        except StartError as error:
            if error.message != self._refused:
                _log.error("%s; the keys before stay in use", error.message)
            self._refused = error.message
            self._tell(told, refused=True)
            return
        if records is not None:
            self._refused = None
            self.keyring.replace(records)
            _log.info("keys.file: was read again, and holds %d keys", len(records))
            self._tell(told, refused=False)

    def _tell(self, told: Callable[[int, bool], object], *, refused: bool) -> None:
        told(0 if self.keyring is None else len(self.keyring), refused)

    def _open(self, settings: KeySettings) -> Keyring | None:
        if self._file is not None:
            records = self._file.read()
        elif settings.records is not None:
            records = _given(settings.records.get_secret_value(), settings.limits)
        else:
            return None
        if not records:
            _log.warning("there is no key: every call that needs one is refused")
        return Keyring(records)


def _given(text: str, limits: KeyLimits) -> tuple[KeyRecord, ...]:
    try:
        return read_records(text.replace(";", "\n"), limits)
    except StartError as error:
        raise StartError(f"keys.records: {error.message}") from None
