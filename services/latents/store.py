"""A bounded store of latents on disk, for a time."""

import io
import logging
import math
import re
import secrets
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from components.contract import Contract, Kind
from components.messages import FloatArray, ImageRequest
from components.reference import ComponentRef
from services.errors import LatentsNotFoundError, LatentsNotKeptError, StartError
from services.latents.records import KeptLatents

_log = logging.getLogger("ray.serve")

Dropped: TypeAlias = Literal["expired", "full", "damaged"]

_SECRET_BYTES = 16
# the secret, and after it the second in which the latents end: a folder can be read without opening its files
_ID = re.compile(r"[A-Za-z0-9_-]{22}([0-9a-f]{8,12})")
_SUFFIX, _PART = ".npz", ".part"
# what the file system gives to a file, however small
_BLOCK = 4096


class StoreSettings(BaseModel):
    """Where latents are kept, how many bytes of them, and for how many seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    folder: Path
    most_bytes: int = Field(ge=0)
    keep_s: float = Field(gt=0)


class _Facts(BaseModel):
    """What a file holds beside the array."""

    model_config = ConfigDict(frozen=True)

    tenant: str
    request: ImageRequest
    pins: dict[Kind, ComponentRef]
    contract: Contract
    prompt_truncated: bool
    negative_prompt_truncated: bool


class _Entry(NamedTuple):
    size: int
    ends: int


class LatentStore:
    """Keeps each picture's latents in a file of their own; usable from any number of threads of one process.

    Where a new one has no room the oldest go. No texts are kept, and of the tenant only a digest.
    """

    def __init__(
        self,
        settings: StoreSettings,
        dropped: Callable[[Dropped], object],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Take over what the folder holds; `dropped` learns of each that goes and why. `clock` is seconds since 1970.

        Raises:
            StartError: the folder cannot be made, read or written.
        """
        self._folder = settings.folder
        self._settings = settings
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
            raise StartError(f"latents.folder={self._folder}: {error.strerror}") from None

    @property
    def count(self) -> int:
        """How many latents are kept."""
        return len(self._entries)

    @property
    def size(self) -> int:
        """What they take on disk."""
        return self._bytes

    def keep(self, kept: KeptLatents, tenant: str) -> str:
        """Keep latents for a tenant, and return the id under which only that tenant can read them.

        Raises:
            LatentsNotKeptError: they are more than the store may hold at all, or the disk does not take them.
        """
        content = _written(kept, tenant)
        size = _on_disk(len(content))
        if size > self._settings.most_bytes:
            raise LatentsNotKeptError(f"latents of {size} bytes are more than latents.most_bytes")
        ends = math.ceil(self._clock() + self._settings.keep_s)
        id_ = f"{secrets.token_urlsafe(_SECRET_BYTES)}{ends:08x}"
        with self._lock:
            try:
                self._make_room(self._settings.most_bytes - size)
                self._write(id_, content)
            except OSError as error:
                raise LatentsNotKeptError(f"the disk does not take latents: {error.strerror}") from None
            self._entries[id_] = _Entry(size, ends)
            self._bytes += size
        return id_

    def read(self, id_: str, tenant: str) -> KeptLatents:
        """What is kept under an id for a tenant.

        Raises:
            LatentsNotFoundError: nothing is, or not any more, or for another tenant, or its file is damaged.
            OSError: the disk cannot be read.
        """
        match = _ID.fullmatch(id_)
        if match is None or int(match[1], 16) <= self._clock():
            raise _not_found()
        try:
            content = self._file(id_).read_bytes()
        except FileNotFoundError:
            raise _not_found() from None
        try:
            facts, latents = _read(content)
        except Exception as error:  # noqa: BLE001 - reading damaged bytes can come to anything
            _log.error("latents: a damaged file is removed: %s", type(error).__name__)
            with self._lock, suppress(OSError):
                self._remove(id_, "damaged")
            raise _not_found() from None
        if not secrets.compare_digest(facts.tenant, _digest(tenant)):
            raise _not_found()
        return KeptLatents(
            latents=latents,
            request=facts.request,
            pins=facts.pins,
            contract=facts.contract,
            prompt_truncated=facts.prompt_truncated,
            negative_prompt_truncated=facts.negative_prompt_truncated,
        )

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
            match = _ID.fullmatch(file.name.removesuffix(_SUFFIX))
            if file.suffix == _PART:
                # whoever wrote it is gone
                file.unlink(missing_ok=True)
            elif match is not None and file.suffix == _SUFFIX:
                found[match[0]] = _Entry(_on_disk(file.stat().st_size), int(match[1], 16))
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
        return self._folder / f"{id_}{_SUFFIX}"


def _written(kept: KeptLatents, tenant: str) -> bytes:
    facts = _Facts(
        tenant=_digest(tenant),
        request=replace(kept.request, prompt="", negative_prompt=""),
        pins=dict(kept.pins),
        contract=kept.contract,
        prompt_truncated=kept.prompt_truncated,
        negative_prompt_truncated=kept.negative_prompt_truncated,
    )
    text = np.frombuffer(facts.model_dump_json().encode(), np.uint8)
    out = io.BytesIO()
    # a zip file, which has a checksum of each of its parts
    np.savez(out, latents=kept.latents, facts=text)
    return out.getvalue()


def _read(content: bytes) -> tuple[_Facts, FloatArray]:
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        # before anything in it is believed: a shape with a flipped bit may ask for all of the memory
        if arrays.zip.testzip() is not None:
            raise ValueError("a checksum differs")
        facts = _Facts.model_validate_json(arrays["facts"].tobytes())
        latents = arrays["latents"]
    space = facts.contract.latent_space
    if space is None:
        raise ValueError("a contract without a latent space")
    request = facts.request
    wanted = (1, space.channels, request.height // space.downscale, request.width // space.downscale)
    if latents.dtype != np.float32 or latents.shape != wanted:
        raise ValueError("an array of another shape")
    return facts, latents


def _on_disk(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK


def _digest(tenant: str) -> str:
    return sha256(tenant.encode()).hexdigest()


def _not_found() -> LatentsNotFoundError:
    # the same for all: who may not read them must not learn that they are there
    return LatentsNotFoundError("id: there are no such latents, or not any more, or not for this user", "id")
