"""What crosses between deployments besides the stages' own messages: pins, orders, pictures."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from components.contract import Contract, Kind
from components.messages import FloatArray, ImageRequest, Pixels, Snapshot
from components.reference import ComponentRef
from diffusion.batcher_records import Priority

PictureFormat: TypeAlias = Literal["png", "jpeg", "webp"]
Pins: TypeAlias = Mapping[Kind, ComponentRef]

_NOTHING = Snapshot()


@dataclass(frozen=True, slots=True, eq=False)
class LiveModel:
    """What a bundle is just now: the exact version of every component, and its contract."""

    bundle: str
    pins: Pins
    contracts: Mapping[Kind, Contract]


@dataclass(frozen=True, slots=True)
class Encoding:
    """How pictures are written: `quality` 0..100 for jpeg and webp; png loses nothing and knows none."""

    format: PictureFormat = "png"
    quality: int = 100


@dataclass(frozen=True, slots=True)
class Terms:
    """How a request shares the denoiser with others: tenants get equal shares, within a class of priority.

    `deadline_s` is seconds from the request's arrival, None for none.
    """

    tenant: str = ""
    priority: Priority = "normal"
    deadline_s: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Order:
    """An admitted request: what to draw, by which versions, how to write it, and on which terms."""

    request: ImageRequest
    pins: Pins
    encoding: Encoding
    terms: Terms = Terms()


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class WalkOrder:
    """One picture for a denoiser's replica; `order` is common to the pictures of one request.

    The request came `waited_s` seconds ago, from when its deadline counts. A walk that was under way elsewhere, where
    it was `admitted`, goes on from `snapshot`; until it has `alone_until` estimates it shares no run. A report comes
    after the first evaluation, then every `report_every` evaluations; where `preview_every` is not 0, every so many
    steps one comes with a preview.
    """

    order: str
    pin: ComponentRef
    request: ImageRequest
    terms: Terms
    waited_s: float = 0.0
    snapshot: Snapshot = _NOTHING
    admitted: bool = False
    alone_until: int = 0
    report_every: int
    preview_every: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class WalkReport:
    """How far a walk is; the last one holds the latents [1, channels, height, width], in the denoiser's scale.

    `progress` is what came since the report before. `preview` is one pixel for each latent pixel, [height, width, 3].
    Of a walk that shares no run one comes when it has arrived, and one that is `at_risk` before each of its runs.
    """

    step: int
    steps: int
    progress: Snapshot = _NOTHING
    preview: Pixels | None = None
    latents: FloatArray | None = None
    at_risk: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Progress:
    """How far picture `image` of an order is; `preview` as in `WalkReport`."""

    image: int
    step: int
    steps: int
    preview: Pixels | None


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """One encoded picture and the seeds that made it; `subseed` is None where nothing varied the noise."""

    data: bytes
    seed: int
    subseed: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """The pictures of one order, and whether its prompt and its negative prompt were cut at the token limit."""

    pictures: tuple[Picture, ...]
    prompt_truncated: bool
    negative_prompt_truncated: bool
