"""A bounded store of files on disk, for a time."""

import logging
import math
import re
import secrets
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from services.errors import FileNotKeptError, StartError

_log = logging.getLogger("ray.serve")

Dropped: TypeAlias = Literal["expired", "full", "damaged"]

_SECRET_BYTES = 16
# the secret, and after it the second in which the file ends: a folder can be read without opening its files
_ID = re.compile(r"[A-Za-z0-9_-]{22}([0-9a-f]{8,12})")
_PART = ".part"
# what the file system gives to a file, however small
_BLOCK = 4096


class StoreSettings(BaseModel):
    """Where files are kept, how many bytes of them, and for how many seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    folder: Path
    most_bytes: int = Field(ge=0)
    keep_s: float = Field(gt=0)


class _Entry(NamedTuple):
    size: int
    ends: int


def end_of(id_: str) -> int | None:
    """When what is kept under an id ends, in seconds since 1970; None where it is no id."""
    match = _ID.fullmatch(id_)
    return None if match is None else int(match[1], 16)


class FileStore:
    """Keeps each content in a file of its own; usable from any number of threads of one process.

    Where a new one has no room the oldest go.
    """

    def __init__(
        self,
        settings: StoreSettings,
        name: str,
        suffix: str,
        dropped: Callable[[Dropped], object],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Take over what the folder holds; `dropped` learns of each file that goes and why.

        `name` is that of the settings, for errors; `clock` is seconds since 1970.

        Raises:
            StartError: the folder cannot be made, read or written.
        """
        self._folder = settings.folder
        self._settings = settings
        self._name = name
        self._suffix = suffix
        self._dropped = dropped
        self._clock = clock
        self._lock = threading.Lock()
        self._entries: dict[str, _Entry] = {}
        self._bytes = 0
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._take_over()
            self.sweep()
        except OSError as error:
            raise StartError(f"{name}.folder={self._folder}: {error.strerror}") from None

    @property
    def count(self) -> int:
        """How many files are kept."""
        return len(self._entries)

    @property
    def size(self) -> int:
        """What they take on disk."""
        return self._bytes

    def keep(self, content: bytes) -> str:
        """Keep a content, and return an id that nobody can guess.

        Raises:
            FileNotKeptError: it is more than the store may hold at all, or the disk does not take it.
        """
        size = _on_disk(len(content))
        if size > self._settings.most_bytes:
            raise FileNotKeptError(f"a file of {size} bytes is more than {self._name}.most_bytes")
        ends = math.ceil(self._clock() + self._settings.keep_s)
        id_ = f"{secrets.token_urlsafe(_SECRET_BYTES)}{ends:08x}"
        with self._lock:
            try:
                self._make_room(self._settings.most_bytes - size)
                self._write(id_, content)
            except OSError as error:
                raise FileNotKeptError(f"{self._name}: the disk does not take a file: {error.strerror}") from None
            self._entries[id_] = _Entry(size, ends)
            self._bytes += size
        return id_

    def read(self, id_: str) -> bytes | None:
        """What is kept under an id, None where nothing is, or not any more.

        Raises:
            OSError: the disk cannot be read.
        """
        ends = end_of(id_)
        if ends is None or ends <= self._clock():
            return None
        try:
            return self._file(id_).read_bytes()
        except FileNotFoundError:
            return None

    def damaged(self, id_: str, why: str) -> None:
        """Remove a file in which something else is than was kept."""
        _log.error("%s: a damaged file is removed: %s", self._name, why)
        with self._lock, suppress(OSError):
            self._remove(id_, "damaged")

    def sweep(self) -> None:
        """Remove what has ended, and the oldest of what is too much.

        Raises:
            OSError: the disk does not let go of a file.
        """
        now = self._clock()
        with self._lock:
            for id_ in [id_ for id_, entry in self._entries.items() if entry.ends <= now]:
                self._remove(id_, "expired")
            self._make_room(self._settings.most_bytes)

    def _take_over(self) -> None:
        found: dict[str, _Entry] = {}
        for file in self._folder.iterdir():
            id_ = file.name.removesuffix(self._suffix)
            ends = end_of(id_)
            if file.suffix == _PART:
                # whoever wrote it is gone
                file.unlink(missing_ok=True)
            elif ends is not None and file.suffix == self._suffix:
                found[id_] = _Entry(_on_disk(file.stat().st_size), ends)
        self._entries = dict(sorted(found.items(), key=lambda item: item[1].ends))
        self._bytes = sum(entry.size for entry in found.values())

    def _make_room(self, most_bytes: int) -> None:
        """Remove the oldest until no more than so many bytes are kept; the lock is held."""
        while self._bytes > most_bytes:
            self._remove(next(iter(self._entries)), "full")

    def _remove(self, id_: str, why: Dropped) -> None:
        self._file(id_).unlink(missing_ok=True)
        if (entry := self._entries.pop(id_, None)) is not None:
            self._bytes -= entry.size
            self._dropped(why)

    def _write(self, id_: str, content: bytes) -> None:
        # Under another name first, so that a process that dies leaves nothing half written under an id. Whether a
        # machine that loses power keeps it is not worth waiting for: a file with a hole is found out when it is read.
        part = self._folder / f"{id_}{_PART}"
        try:
            # nobody else's to read, whatever folder it is
            part.touch(mode=0o600, exist_ok=False)
            part.write_bytes(content)
            part.replace(self._file(id_))
        except OSError:
            with suppress(OSError):
                part.unlink(missing_ok=True)
            raise

    def _file(self, id_: str) -> Path:
        return self._folder / f"{id_}{self._suffix}"


def _on_disk(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK
