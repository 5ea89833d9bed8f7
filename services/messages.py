"""What crosses between deployments besides the stages' own messages: pins, orders, pictures."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeAlias, TypeVar

from components.contract import Contract, Kind
from components.messages import Control, ControlPicture, FloatArray, ImageRequest, Mask, Pixels, Snapshot, Source
from components.reference import ComponentRef, kind_of
from diffusion.batcher_records import Priority
from pipeline.hires import enlarges_latents
from registry.rollout.state import Canary, Shadow
from services.timelines.spans import Span

PictureFormat: TypeAlias = Literal["png", "jpeg", "webp"]
Pins: TypeAlias = Mapping[Kind, ComponentRef]
PassesWith: TypeAlias = Literal["registry", "room"]
# what an answer says of `quality`, as OpenAI has it
ToldQuality: TypeAlias = Literal["low", "medium", "high", "xhigh", "max"]

Made = TypeVar("Made")

# of the stages that a picture goes through, where they are there: a request may ask for other versions than the live
# ones
OVERRIDABLE = (Kind.TEXT_ENCODER, Kind.DENOISER, Kind.VAE_DECODER, Kind.THIRD_TEXT_ENCODER)
_NOTHING = Snapshot()


@dataclass(frozen=True, slots=True, eq=False)
class LiveModel:
    """What a bundle is just now: the exact version of every component, and its contract."""

    bundle: str
    pins: Pins
    contracts: Mapping[Kind, Contract]


@dataclass(frozen=True, slots=True, eq=False)
class LiveRecord:
    """What the rollout controller decided that new requests are pinned to; `stamp` tells one decision from the next.

    `versions` holds the contract of every version that the record names. Since `away_since`, in seconds since 1970, the
    registry has not answered, None while it does; what is here is then the last that it said.
    """

    stamp: str
    live: LiveModel
    versions: Mapping[ComponentRef, Contract]
    fallback: ComponentRef | None = None
    canary: Canary | None = None
    shadow: Shadow | None = None
    aliases: Mapping[str, Mapping[str, ComponentRef]] = field(default_factory=dict)
    away_since: float | None = None


@dataclass(frozen=True, slots=True)
class VersionReport:
    """One version in one replica: open, being fetched and opened, or failed and why; `users` calls are at work on it.

    `size` is the bytes of its weights as they are computed with; `seconds` is what fetching and opening took. A failure
    that says nothing of the version or the replica `passes_with` the registry's answer or with room; None for others.
    """

    pin: ComponentRef
    state: Literal["loaded", "preparing", "failed"]
    reason: str | None = None
    size: int = 0
    seconds: float = 0.0
    users: int = 0
    passes_with: PassesWith | None = None


@dataclass(frozen=True, slots=True)
class ReplicaReport:
    """The versions of one stage's replica."""

    replica: str
    node: str
    versions: tuple[VersionReport, ...]

    def state(self, pin: ComponentRef) -> VersionReport | None:
        """The report of one version, None where the replica does not know it."""
        return next((version for version in self.versions if version.pin == pin), None)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one request of a version ended; one that asked for versions of its own tells of no canary, and sends none."""

    pin: ComponentRef
    error: bool = False
    non_finite: bool = False


@dataclass(frozen=True, slots=True)
class Encoding:
    """How pictures are written: `quality` 0..100 for jpeg and webp; png loses nothing and knows none."""

    format: PictureFormat = "png"
    quality: int = 100


@dataclass(frozen=True, slots=True)
class Terms:
    """How a request shares the denoiser with others: tenants get equal shares, within a class of priority.

    `deadline_s` is seconds from the request's arrival, None for none. `owner` is whose the latents are that it keeps,
    None for the tenant's.
    """

    tenant: str = ""
    priority: Priority = "normal"
    deadline_s: float | None = None
    owner: str | None = None

    @property
    def whose(self) -> str:
        """Whose it is that the request keeps."""
        return self.tenant if self.owner is None else self.owner


@dataclass(frozen=True, slots=True, eq=False)
class Order:
    """An admitted request: what to draw, by which versions, how to write it, and on which terms.

    `fallback` decodes a picture that the pinned VAE decoder gives wrong; `shadow` decodes the latents once more after
    the answer, to be compared. `store_latents` keeps the latents of every picture for a time, with `contract`, the
    denoiser's. `source` is what the pictures start from, None where that is noise alone; `laid_size` is the width and
    height of what they are laid into, known longer than that itself. `beside` are the versions that the request names
    itself, as its `controls` do, which have the pictures `controls` [1, height, width, 3], 0..255, of the size that is
    drawn, in their order. `image_prompts` [1, side, side, 3], 0..255, are what they are to be like, as the pinned image
    encoder sees them.
    """

    request: ImageRequest
    pins: Pins
    encoding: Encoding
    terms: Terms = Terms()
    id: str = ""
    fallback: ComponentRef | None = None
    shadow: ComponentRef | None = None
    store_latents: bool = False
    contract: Contract | None = None
    source: Source | None = None
    laid_size: tuple[int, int] | None = None
    beside: tuple[ComponentRef, ...] = ()
    controls: tuple[Pixels, ...] = ()
    image_prompts: tuple[Pixels, ...] = ()

    def __post_init__(self) -> None:
        """Raise ValueError where latents are to be kept and nothing says what they are."""
        if self.store_latents and self.contract is None:
            raise ValueError("store_latents: needs the denoiser's contract")

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of its pictures."""
        return (self.request.width, self.request.height) if self.laid_size is None else self.laid_size

    @property
    def sees_pixels(self) -> bool:
        """Whether its denoiser sees the source itself, and draws it larger; nothing encodes it then."""
        return self.contract is not None and self.contract.sees_pixels

    @property
    def encodes(self) -> bool:
        """Whether its pictures need the VAE's encoder: for their source, or between two passes."""
        hires = self.request.hires
        between = hires is not None and not enlarges_latents(hires.upscaler)
        return between or (self.source is not None and not self.sees_pixels)

    def controls_of(self, kind: Kind) -> tuple["ControlOrder", ...]:
        """The control pictures for components of a kind, in the order of the request."""
        found = (
            ControlOrder(self._pins[choice.model], choice, pixels)
            for choice, pixels in zip(self.request.controls, self.controls, strict=True)
        )
        return tuple(one for one in found if kind_of(one.pin.name) == kind)

    @property
    def loras(self) -> tuple[ComponentRef, ...]:
        """The versions of the request's LoRAs, in their order."""
        return tuple(self._pins[choice.model] for choice in self.request.loras)

    @property
    def _pins(self) -> Mapping[str, ComponentRef]:
        return {str(pin): pin for pin in self.beside}


@dataclass(frozen=True, slots=True, eq=False)
class ControlOrder:
    """A control picture [1, height, width, 3], 0..255, for a version, and how it holds a walk."""

    pin: ComponentRef
    how: Control
    pixels: Pixels

    @property
    def picture(self) -> ControlPicture:
        """The same, as a ControlNet's."""
        return ControlPicture(scale=self.how.scale, start=self.how.start, end=self.how.end, pixels=self.pixels)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class WalkOrder:
    """One picture for a denoiser's replica; `order` is common to the pictures of one request.

    The request came `waited_s` seconds ago, from when its deadline counts. A walk that was under way elsewhere, where
    it was `admitted`, goes on from `snapshot`; until it has `alone_until` estimates it shares no run. A report comes
    after the first evaluation, then every `report_every` evaluations; where `preview_every` is not 0, every so many
    steps one comes with a preview, and with `tell_position` one comes whenever fewer walks wait before it. `mask` and
    `depth` are those of the order's source, `low_resolution` its pixels where they are drawn larger. A second pass
    starts from the first's `latents`, enlarged. `controls` are what ControlNets look at; `features` says of each of the
    features that come beside it how they hold the walk. `loras` are the versions of the request's, in their order.
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
    tell_position: bool = False
    mask: Mask | None = None
    low_resolution: Pixels | None = None
    depth: FloatArray | None = None
    latents: FloatArray | None = None
    controls: tuple[ControlOrder, ...] = ()
    features: tuple[Control, ...] = ()
    loras: tuple[ComponentRef, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class WalkReport:
    """How far a walk is; the last one holds the latents [1, channels, height, width], in the denoiser's scale.

    `progress` is what came since the report before. `preview` is one pixel for each latent pixel, [height, width, 3].
    Of a walk that shares no run one comes when it has arrived, and one that is `at_risk` before each of its runs. Where
    `position` is not 0 it waits for its first run, and position - 1 others came before it. The last one has the `span`
    of the walk.
    """

    step: int
    steps: int
    progress: Snapshot = _NOTHING
    preview: Pixels | None = None
    latents: FloatArray | None = None
    at_risk: bool = False
    position: int = 0
    span: Span | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Progress:
    """How far picture `image` of an order is; `preview` as in `WalkReport`."""

    image: int
    step: int
    steps: int
    preview: Pixels | None


@dataclass(frozen=True, slots=True, eq=False)
class Queued:
    """Picture `image` of an order waits for its first step, as number `position` in its denoiser's queue, from 1."""

    image: int
    position: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StageTimes:
    """Where the time of one picture went, in seconds.

    The encoders work side by side; `vae_encoder_s` is None where the picture starts from noise alone. `queued_s` is
    what it waited for its first step, `denoiser_s` the rest of the walk, `file_s` the writing of the file. Where there
    are two passes each is that of both. `total_s` has what is none of these too: the ways between the stages, and the
    start of a stage that had no replica.
    """

    text_encoder_s: float
    vae_encoder_s: float | None
    queued_s: float
    denoiser_s: float
    vae_decoder_s: float
    file_s: float
    total_s: float


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """One encoded picture and the seeds that made it; `subseed` is None where nothing varied the noise.

    `decoder` made it: the pinned one, or the fallback where the pinned one gave no picture. `latents` is the id under
    which its latents are kept, None where nobody asked for that, `times` None where it was decoded alone.
    """

    data: bytes
    seed: int
    subseed: int | None = None
    decoder: ComponentRef | None = None
    latents: str | None = None
    times: StageTimes | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """The pictures of one order, and whether its prompt and its negative prompt were cut at the token limit.

    `text_tokens` counts those of both that were read. `span` is the graph's work on it, None where a job was drawn.
    """

    pictures: tuple[Picture, ...]
    prompt_truncated: bool
    negative_prompt_truncated: bool
    text_tokens: int = 0
    span: Span | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Worked(Generic[Made]):
    """What a stage's replica made of a call, and the span of the work alone.

    `present_s` is how long the call was in the replica altogether, 0 where that was not timed.
    """

    made: Made
    span: Span
    present_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowResult:
    """How a candidate, `pin`, decoded latents whose picture `live` had made; the seconds are those of the work alone.

    `psnr_db` compares the two, infinite where they are the same; it and `seconds` are None where the candidate gave no
    picture: either not a finite one, or it failed, for the reason told.
    """

    pin: ComponentRef
    live: ComponentRef
    psnr_db: float | None = None
    seconds: float | None = None
    live_seconds: float
    finite: bool = True
    failed: str | None = None
