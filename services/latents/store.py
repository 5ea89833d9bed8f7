"""A bounded store of latents, for a time."""

import io
import secrets
import time
from collections.abc import Callable
from hashlib import sha256

import numpy as np
from pydantic import BaseModel, ConfigDict

from components.contract import Contract, Kind
from components.messages import FloatArray, ImageRequest
from components.reference import ComponentRef
from services.errors import FileNotKeptError, LatentsNotFoundError, LatentsNotKeptError
from services.files.store import Dropped, FileStore, StoreSettings
from services.latents.records import KeptLatents


class _Facts(BaseModel):
    """What a file holds beside the array."""

    model_config = ConfigDict(frozen=True)

    tenant: str
    request: ImageRequest
    pins: dict[Kind, ComponentRef]
    contract: Contract
    prompt_truncated: bool
    negative_prompt_truncated: bool
    # in those of before there is none
    beside: tuple[ComponentRef, ...] = ()


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
        """Take over what is there; `dropped` learns of each that goes and why. `clock` is seconds since 1970.

        Raises:
            StartError: the place cannot be made, read or written.
        """
        self._files = FileStore(settings, "latents", ".npz", dropped, clock)

    @property
    def count(self) -> int:
        """How many latents are kept."""
        return self._files.count

    @property
    def size(self) -> int:
        """What they take, in whole blocks."""
        return self._files.size

    def keep(self, kept: KeptLatents, tenant: str) -> str:
        """Keep latents for a tenant, and return the id under which only that tenant can read them.

        Raises:
            LatentsNotKeptError: they are more than the store may hold at all, or its place does not take them.
        """
        try:
            return self._files.keep(_written(kept, tenant))
        except FileNotKeptError as error:
            raise LatentsNotKeptError(error.message) from None

    def read(self, id_: str, tenant: str) -> KeptLatents:
        """What is kept under an id for a tenant.

        Raises:
            LatentsNotFoundError: nothing is, or not any more, or for another tenant, or its file is damaged.
            UnavailableError: the place cannot be read just now.
        """
        content = self._files.read(id_)
        if content is None:
            raise _not_found()
        try:
            facts, latents = _read(content)
        except Exception as error:  # noqa: BLE001 - reading damaged bytes can come to anything
            self._files.damaged(id_, type(error).__name__)
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
            beside=facts.beside,
        )

    def sweep(self) -> None:
        """Remove what has ended, and the oldest of what is too much.

        Raises:
            OSError: the place does not let go of a file.
        """
        self._files.sweep()


def _written(kept: KeptLatents, tenant: str) -> bytes:
    facts = _Facts(
        tenant=_digest(tenant),
        request=kept.request.without_texts(),
        pins=dict(kept.pins),
        contract=kept.contract,
        prompt_truncated=kept.prompt_truncated,
        negative_prompt_truncated=kept.negative_prompt_truncated,
        beside=kept.beside,
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


def _digest(tenant: str) -> str:
    return sha256(tenant.encode()).hexdigest()


def _not_found() -> LatentsNotFoundError:
    # the same for all: who may not read them must not learn that they are there
    return LatentsNotFoundError("id: there are no such latents, or not any more, or not for this user", "id")
