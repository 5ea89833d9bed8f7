"""What a batch has done, in a file beside its pictures that is true whenever the process ends.

A request goes through it in two lines, each on the disk before the next step begins: with which seeds it was begun, and
which files it became, by their digests, while these still have another name. So a request that was only begun is drawn
again, the same; and one whose files were named is done, whether or not they had got their names.
"""

import hashlib
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, ValidationError

from services.client.errors import InputError
from services.client.saving import SavingError, part_of, place

NAME = "journal.jsonl"
_LOCK = ".journal.lock"


class JournalError(InputError):
    """A journal is in use, cannot be read, or is there where none may be."""


class Seeds(BaseModel):
    """What the first picture of a request is drawn from; `subseed` is None where nothing is varied."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int
    subseed: int | None = None


class Made(BaseModel):
    """A picture's file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    sha256: str


class _Entry(BaseModel):
    """A line: a request by its key, and one of the two."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    request: str
    begun: Seeds | None = None
    files: tuple[Made, ...] | None = None


class Journal:
    """The journal of a folder; one process has it at a time."""

    def __init__(self, folder: Path, lines: IO[bytes], entries: list[_Entry]) -> None:
        """Go on after `entries`, writing to `lines`; `opened` makes them."""
        self._folder = folder
        self._lines = lines
        self._begun = {one.request: one.begun for one in entries if one.begun is not None}
        self._files = {one.request: one.files for one in entries if one.files is not None}

    @classmethod
    @contextmanager
    def opened(cls, folder: Path, *, resume: bool) -> Iterator["Journal"]:
        """The journal of a folder, which is made if it is not there; one that holds lines is gone on with by `resume`.

        Raises:
            JournalError: it may not be gone on with, another process has it, or it cannot be read or written.
        """
        with ExitStack() as held:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                held.enter_context(FileLock(folder / _LOCK, timeout=0))
                lines = held.enter_context((folder / NAME).open("a+b"))
                entries = _read(lines)
            except Timeout:
                raise JournalError(f"{folder}: another batch is at work there") from None
            except OSError as error:
                raise JournalError(f"{folder}: cannot be written: {error.strerror}") from None
            if entries and not resume:
                raise JournalError(f"{folder}: holds a batch already; --resume goes on with it")
            yield cls(folder, lines, entries)

    def seeds(self, request: str) -> Seeds | None:
        """With which seeds a request was begun."""
        return self._begun.get(request)

    def begin(self, request: str, seeds: Seeds) -> None:
        """Write down with which seeds a request is begun."""
        self._write(_Entry(request=request, begun=seeds))
        self._begun[request] = seeds

    def made(self, request: str, files: tuple[Made, ...]) -> None:
        """Write down which files a request became, while they are parts."""
        self._write(_Entry(request=request, files=files))
        self._files[request] = files

    def settled(self, request: str) -> dict[str, Made]:
        """The files of a request that are there, by their names; those that are still parts get them.

        Raises:
            SavingError: another file has such a name.
        """
        return {one.name: one for one in self._files.get(request, ()) if self._settle(one)}

    def _settle(self, made: Made) -> bool:
        path = self._folder / made.name
        part = part_of(path)
        if _digest(path) == made.sha256:
            part.unlink(missing_ok=True)
            return True
        if _digest(part) != made.sha256:
            return False
        place(path)
        return True

    def _write(self, entry: _Entry) -> None:
        # one write at the end of the file: whole, or torn at the end, which the next start cuts off
        try:
            self._lines.write(entry.model_dump_json(exclude_none=True).encode() + b"\n")
            self._lines.flush()
            os.fsync(self._lines.fileno())
        except OSError as error:
            raise SavingError(f"{NAME}: cannot be written: {error.strerror}") from None


def _read(lines: IO[bytes]) -> list[_Entry]:
    lines.seek(0)
    whole, newline, torn = lines.read().rpartition(b"\n")
    if torn:
        lines.truncate(len(whole) + len(newline))
    entries = []
    for number, line in enumerate(whole.split(b"\n") if newline else [], 1):
        try:
            entries.append(_Entry.model_validate_json(line))
        except ValidationError:
            raise JournalError(f"{NAME}: line {number} is none of a journal") from None
    return entries


def _digest(path: Path) -> str | None:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except FileNotFoundError:
        return None
