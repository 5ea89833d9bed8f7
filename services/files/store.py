"""A bounded store of files, for a time."""

import logging
import math
import re
import secrets
import threading
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Literal, NamedTuple, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from services.errors import FileNotKeptError, UnavailableError
from services.files.blobs import Place, open_blobs, starting

_log = logging.getLogger("ray.serve")

Dropped: TypeAlias = Literal["expired", "full", "damaged"]

_SECRET_BYTES = 16
# the secret, and after it the second in which the file ends: a list of names tells all but the contents
_ID = re.compile(r"[A-Za-z0-9_-]{22}([0-9a-f]{8,12})")
# what the file system gives to a file, however small
_BLOCK = 4096


class StoreSettings(BaseModel):
    """Where files are kept, how many bytes of them, and for how many seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    store: Place
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

    Where a new one has no room the oldest go. It alone changes its place.
    """

    def __init__(
        self,
        settings: StoreSettings,
        name: str,
        suffix: str,
        dropped: Callable[[Dropped], object],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Take over what is there; `dropped` learns of each file that goes and why.

        `name` is that of the settings, for errors; `clock` is seconds since 1970.

        Raises:
            StartError: the place cannot be made, read or written.
        """
        self._settings = settings
        self._name = name
        self._suffix = suffix
        self._dropped = dropped
        self._clock = clock
        # of what is known here; nothing far away is asked while it is held
        self._lock = threading.Lock()
        # only who holds it lets go of files, and forgets them once they are gone
        self._removing = threading.Lock()
        self._entries: dict[str, _Entry] = {}
        # those that are being written too
        self._bytes = 0
        with starting(name, settings.store):
            self.blobs = open_blobs(settings.store)
            self._take_over()
            self.sweep()

    @property
    def count(self) -> int:
        """How many files are kept."""
        return len(self._entries)

    @property
    def size(self) -> int:
        """What they take, in whole blocks."""
        return self._bytes

    def keep(self, content: bytes) -> str:
        """Keep a content, and return an id that nobody can guess.

        Raises:
            FileNotKeptError: it is more than the store may hold at all, or its place does not take it.
        """
        size = _in_blocks(len(content))
        if size > self._settings.most_bytes:
            raise FileNotKeptError(f"a file of {size} bytes is more than {self._name}.most_bytes")
        ends = math.ceil(self._clock() + self._settings.keep_s)
        id_ = f"{secrets.token_urlsafe(_SECRET_BYTES)}{ends:08x}"
        try:
            self._reserve(size)
            try:
                # outside of the lock: a service far away takes its time
                self.blobs.write(self._file(id_), content)
            except BaseException:
                self._give_back(size)
                raise
        except OSError as error:
            raise FileNotKeptError(f"{self._name}: the store does not take a file: {error.strerror}") from None
        with self._lock:
            self._entries[id_] = _Entry(size, ends)
        return id_

    def read(self, id_: str) -> bytes | None:
        """What is kept under an id, None where nothing is, or not any more.

        Raises:
            UnavailableError: the place cannot be read just now.
        """
        ends = end_of(id_)
        if ends is None or ends <= self._clock():
            return None
        try:
            return self.blobs.read(self._file(id_))
        except OSError as error:
            _log.error("%s: what is kept cannot be read: %s", self._name, error.strerror)
            raise UnavailableError("what is kept cannot be read just now; try again later") from None

    def damaged(self, id_: str, why: str) -> None:
        """Remove a file in which something else is than was kept."""
        _log.error("%s: a damaged file is removed: %s", self._name, why)
        with self._removing, suppress(OSError):
            self._remove([id_], "damaged")

    def sweep(self) -> None:
        """Remove what has ended, and the oldest of what is too much.

        Raises:
            OSError: the place does not let go of a file.
        """
        now = self._clock()
        with self._removing:
            with self._lock:
                ended = [id_ for id_, entry in self._entries.items() if entry.ends <= now]
            self._remove(ended, "expired")
            with self._lock:
                oldest = self._beyond(self._settings.most_bytes)
            self._remove(oldest, "full")

    def _take_over(self) -> None:
        found: dict[str, _Entry] = {}
        for file, size in self.blobs.sizes().items():
            id_ = file.removesuffix(self._suffix)
            if id_ != file and (ends := end_of(id_)) is not None:
                found[id_] = _Entry(_in_blocks(size), ends)
        self._entries = dict(sorted(found.items(), key=lambda item: item[1].ends))
        self._bytes = sum(entry.size for entry in found.values())

    def _reserve(self, size: int) -> None:
        if self._reserved(size):
            return
        with self._removing:
            while not self._reserved(size):
                with self._lock:
                    oldest = self._beyond(self._settings.most_bytes - size)
                if not oldest:
                    raise FileNotKeptError(
                        f"{self._name}: files that are being written take all of {self._name}.most_bytes"
                    )
                # others may take the room; then more go
                self._remove(oldest, "full")

    def _reserved(self, size: int) -> bool:
        with self._lock:
            fits = self._bytes + size <= self._settings.most_bytes
            self._bytes += size if fits else 0
        return fits

    def _give_back(self, size: int) -> None:
        with self._lock:
            self._bytes -= size

    def _beyond(self, most_bytes: int) -> list[str]:
        """The oldest, until no more than so many bytes are kept; the lock is held."""
        leaving, kept = [], self._bytes
        for id_, entry in self._entries.items():
            if kept <= most_bytes:
                break
            leaving.append(id_)
            kept -= entry.size
        return leaving

    def _remove(self, ids: Collection[str], why: Dropped) -> None:
        # first there, then here: what is not let go of still counts
        self.blobs.remove([self._file(id_) for id_ in ids])
        for id_ in ids:
            with self._lock:
                entry = self._entries.pop(id_, None)
                self._bytes -= 0 if entry is None else entry.size
            if entry is not None:
                self._dropped(why)

    def _file(self, id_: str) -> str:
        return f"{id_}{self._suffix}"


def _in_blocks(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK
