"""The contract: what a component takes and gives, so that a wrong pairing is refused before anything runs."""

from collections.abc import Collection, Iterable
from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from components.record import Record

# Far above any model that exists: a contract must not make whoever reads it allocate without bound.
MAX_CHANNELS = 1024
MAX_DOWNSCALE = 1024
MAX_WIDTH = 65536
MAX_TOKENS = 65536
MAX_LATENT_SIDE = 16384
MAX_TIMESTEPS = 100_000
MAX_GUIDANCE = 1000.0
MAX_SHIFT = 100.0
MAX_IMAGE_TOKENS = 2**31 - 1

Dimension = Annotated[int, Field(ge=1)] | Annotated[str, Field(min_length=1)]
Coefficient = Annotated[float, Field(ge=-1e6, le=1e6)]
LatentSide = Annotated[int, Field(ge=1, le=MAX_LATENT_SIDE)]


class Kind(StrEnum):
    """What a component does in the chain."""

    TEXT_ENCODER = "text_encoder"
    DENOISER = "denoiser"
    VAE_DECODER = "vae_decoder"
    VAE_ENCODER = "vae_encoder"
    PREVIEW_DECODER = "preview_decoder"
    CONTROLNET = "controlnet"
    ADAPTER = "adapter"
    LORA = "lora"
    IMAGE_ENCODER = "image_encoder"
    THIRD_TEXT_ENCODER = "third_text_encoder"


# what every bundle has one of
PARTS = (Kind.TEXT_ENCODER, Kind.DENOISER, Kind.VAE_DECODER, Kind.VAE_ENCODER)
# what a bundle may have any number of beside them, each of a name of its own, which requests name
NAMED = (Kind.CONTROLNET, Kind.ADAPTER, Kind.LORA)
# what requests bring in beside the parts, so that it is opened when the first one needs it
BESIDE = (*NAMED, Kind.IMAGE_ENCODER)
# what a bundle may have one of beside its parts, and serves with them where it is there
FURTHER_PARTS = (Kind.THIRD_TEXT_ENCODER,)
ALL_PARTS = (*PARTS, *FURTHER_PARTS)

# the input of a denoiser that says which of its layers a row skips, [batch, layers]
SKIP_LAYERS = "skip_layers"

# what makes conditioning of texts; the third one's a denoiser may do without
TEXT_KINDS = (Kind.TEXT_ENCODER, Kind.THIRD_TEXT_ENCODER)


class TensorSpec(Record):
    """One input or output of a graph: a dimension is a number, or the name of one that callers choose.

    `height/2` and `height*8` follow from the `height` that they choose, see `components.dimensions`.
    An `optional` input may be left out; zeros, and leaving it out, have no effect.
    """

    name: str = Field(min_length=1)
    dtype: Literal["float16", "float32", "int64"]
    shape: tuple[Dimension, ...]
    optional: bool = False


class LatentSpace(Record):
    """The space that ties a denoiser to its VAE; two components with the same `id` can be chained.

    The denoiser's latents are `(z - shift_factor) * scaling_factor` for the VAE's latents z. One latent pixel covers
    `downscale` by `downscale` image pixels.
    """

    id: str = Field(min_length=1)
    channels: int = Field(ge=1, le=MAX_CHANNELS)
    downscale: int = Field(ge=1, le=MAX_DOWNSCALE)
    scaling_factor: float = Field(ge=1e-6, le=1e6)
    shift_factor: float = Field(0.0, ge=-1e6, le=1e6)


# what an image encoder makes of a picture, for a denoiser that looks at it beside a text or in place of one
IMAGE_PROMPT = "image_prompt"


class Conditioning(Record):
    """One array that a text encoder hands to the denoiser: [batch, tokens, width], or [batch, width] of whole texts.

    A denoiser that knows no texts has `image_prompt` alone, from an image encoder.
    """

    name: str = Field(min_length=1)
    width: int = Field(ge=1, le=MAX_WIDTH)
    tokens: int | None = Field(
        ge=1,
        le=MAX_TOKENS,
        description="the most tokens of one prompt, start and end marks included; null: one vector for a whole text",
    )
    tokenizer: int = Field(
        1,
        ge=1,
        le=2,
        description="which of the text encoder's tokenizers it is made by: tokenizer.json, tokenizer_2.json",
    )


class ImageChannels(Record):
    """Channels that a denoiser looks at beside the latents, of their height and width.

    `mask`: 1 where the picture is drawn anew. `masked_image`: latents of the picture, grey where it is drawn anew.
    `image`: the likeliest latents of a picture, in the VAE's own scale. `low_resolution`: a picture in RGB, -1..1, with
    noise on it. `low_resolution_latents`: latents of a picture half as wide and high, in the denoiser's scale, each
    four times. `depth`: how near things are, -1 the farthest and 1 the nearest.
    """

    source: Literal["mask", "masked_image", "image", "low_resolution", "low_resolution_latents", "depth"]
    channels: int = Field(ge=1, le=MAX_CHANNELS)


# what a denoiser of SDXL's kind is told of the picture beside the text, in pixels but for the score, in its order
TimeId = Literal[
    "original_height",
    "original_width",
    "crop_top",
    "crop_left",
    "target_height",
    "target_width",
    "aesthetic_score",
]


class NoiseSchedule(Record):
    """How the denoiser was trained, and how its checkpoint's scheduler walks: the names are those of diffusers."""

    prediction_type: Literal["epsilon", "v_prediction", "sample"]
    num_train_timesteps: int = Field(ge=1, le=MAX_TIMESTEPS)
    beta_schedule: Literal["linear", "scaled_linear", "squaredcos_cap_v2"]
    beta_start: float = Field(gt=0, lt=1)
    beta_end: float = Field(gt=0, lt=1)
    rescale_betas_zero_snr: bool = False
    interpolation_type: Literal["linear", "log_linear"] = Field(
        "linear", description="log_linear: Euler's sigmas are spread evenly by their logarithms, the last of training's"
    )
    timestep_type: Literal["discrete", "continuous"] = Field(
        "discrete", description="continuous: the network is told ln(sigma) / 4 in place of the training timestep"
    )
    timestep_spacing: Literal["leading", "trailing", "linspace"] | None = Field(
        None, description="null: what the chosen sampler's scheduler takes when its config names none"
    )
    steps_offset: int = Field(0, ge=0, le=MAX_TIMESTEPS)
    set_alpha_to_one: bool = Field(True, description="false: the last DDIM step ends at the first training timestep")
    skip_prk_steps: bool = Field(True, description="false: a PNDM walk starts with three Runge-Kutta steps")
    final_sigmas_type: Literal["zero", "sigma_min"] = Field(
        "zero", description="sigma_min: Euler and multistep walks end at the noise of the first training timestep"
    )
    sigma_schedule: Literal[
        "default",
        "karras",
        "exponential",
        "beta",
        "sgm_uniform",
        "simple",
        "align_your_steps",
        "align_your_steps_sdxl",
    ] = Field("default", description="the checkpoint's own; default: spaced timesteps")


class DynamicShift(Record):
    """A flow shift that grows with the picture's tokens, from `base_shift` at `base_image_seq_len` of them on.

    One image token covers `patch` by `patch` latent pixels; the other names are those of diffusers.
    """

    base_shift: float = Field(0.5, ge=1e-3, le=MAX_SHIFT)
    max_shift: float = Field(1.15, ge=1e-3, le=MAX_SHIFT)
    base_image_seq_len: int = Field(256, ge=1, le=MAX_IMAGE_TOKENS)
    max_image_seq_len: int = Field(4096, ge=1, le=MAX_IMAGE_TOKENS)
    time_shift_type: Literal["exponential", "linear"] = "exponential"
    patch: int = Field(2, ge=1, le=MAX_LATENT_SIDE)

    @model_validator(mode="after")
    def _grows_over_a_range(self) -> Self:
        if self.max_image_seq_len <= self.base_image_seq_len:
            limit = f"more than base_image_seq_len={self.base_image_seq_len}"
            raise ValueError(f"max_image_seq_len={self.max_image_seq_len}: must be {limit}")
        return self


class FlowSchedule(Record):
    """How a flow-matching denoiser was trained and is walked: it predicts noise - x0 at timesteps that are sigmas.

    `dynamic`, where there, takes the place of `shift`.
    """

    num_train_timesteps: int = Field(ge=2, le=MAX_TIMESTEPS)
    shift: float = Field(1.0, ge=1 / MAX_SHIFT, le=MAX_SHIFT)
    dynamic: DynamicShift | None = None
    sigma_schedule: Literal["default", "karras", "exponential", "beta"] = Field(
        "default", description="the checkpoint's own; default: even steps, shifted"
    )


class LatentProjection(Record):
    """How denoiser-scale latents look, for small previews: RGB in -1..1, one pixel for each latent pixel.

    rgb = sum over channels of latents[channel] * factors[channel] + bias.
    """

    factors: tuple[tuple[Coefficient, Coefficient, Coefficient], ...]
    bias: tuple[Coefficient, Coefficient, Coefficient]


class Preprocessing(Record):
    """How a picture becomes an image encoder's `pixels`: its shorter side resized to `side`, the middle square of it.

    Values are 0..1 in RGB, less `mean`, over `std`.
    """

    side: int = Field(ge=1, le=MAX_LATENT_SIDE)
    mean: tuple[Coefficient, Coefficient, Coefficient]
    std: tuple[Coefficient, Coefficient, Coefficient]


class Contract(Record):
    """All that other components and the pipeline may rely on."""

    kind: Kind
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    latent_space: LatentSpace | None = None
    conditioning: tuple[Conditioning, ...] = ()
    noise_schedule: NoiseSchedule | None = None
    flow_schedule: FlowSchedule | None = None
    latent_size: tuple[LatentSide, LatentSide] | None = Field(
        None, description="the height and width of latents it was trained for"
    )
    latent_multiple: int = Field(
        1, ge=1, le=MAX_LATENT_SIDE, description="the height and width of latents must be multiples of it"
    )
    latent_limit: int | None = Field(
        None, ge=1, le=MAX_LATENT_SIDE, description="the most height and width of latents; null: any"
    )
    image_channels: tuple[ImageChannels, ...] = Field(
        (), description="what a denoiser's input `image_channels` holds, in this order"
    )
    time_ids: tuple[TimeId, ...] = Field(
        (), description="what a denoiser's input `time_ids` holds, and its ControlNet's, in this order"
    )
    zeros_for_empty_negative: bool = Field(
        False, description="where there is no negative prompt, a denoiser's row without the prompt has zeros for it"
    )
    noise_levels: int | None = Field(
        None,
        ge=1,
        le=MAX_TIMESTEPS,
        description="a denoiser's input `noise_level` is below it: how much noise its low resolution picture has",
    )
    low_resolution_schedule: NoiseSchedule | None = Field(
        None, description="by which noise is put on a low resolution picture"
    )
    embeds_guidance: bool = Field(
        False, description="the denoiser has guidance within, by its input `guidance`, and needs no unconditional row"
    )
    image_guidance: float | None = Field(
        None,
        ge=0,
        le=MAX_GUIDANCE,
        description="how strongly a denoiser that edits by instruction keeps to the picture, for requests that name "
        "nothing; it takes three rows a picture",
    )
    guidance: float | None = Field(
        None, ge=0, le=MAX_GUIDANCE, description="what a denoiser draws best at, for requests that name none"
    )
    preprocessing: Preprocessing | None = Field(None, description="what an image encoder does to pictures first")
    preview: LatentProjection | None = Field(None, description="how a denoiser's latents look, for previews")
    skipped_layers: tuple[tuple[str, ...], ...] = Field(
        (),
        description="a text encoder's outputs for clip_skip 2, 3, ..., from the layer before the last down: for each a "
        "name for every array of conditioning",
    )

    @property
    def most_clip_skip(self) -> int:
        """The largest clip_skip that a text encoder has outputs for; 1 is the last layer, which all have."""
        return 1 + len(self.skipped_layers)

    @property
    def token_limits(self) -> set[int]:
        """The most tokens of one prompt, of every array that has tokens."""
        return {array.tokens for array in self.conditioning if array.tokens is not None}

    @property
    def skippable_layers(self) -> int:
        """How many layers a denoiser's rows may skip, 0 for none."""
        sizes = (spec.shape[-1] for spec in self.inputs if spec.name == SKIP_LAYERS)
        return next((size for size in sizes if isinstance(size, int)), 0)

    @property
    def most_rows(self) -> int:
        """The most rows of one picture in a denoiser's run: without and with the prompt, and what it weighs beside."""
        return 2 + (self.image_guidance is not None) + (self.skippable_layers > 0)

    @property
    def required_inputs(self) -> set[str]:
        """The names of the inputs that cannot be left out."""
        return {spec.name for spec in self.inputs if not spec.optional}

    @property
    def reads_texts(self) -> bool:
        """Whether a denoiser is conditioned on texts, and not on pictures in place of them."""
        return any(array.name != IMAGE_PROMPT for array in self.conditioning)

    @property
    def sees_mask(self) -> bool:
        """Whether a denoiser sees itself what of a picture is drawn anew, so that it draws from nothing else."""
        return any(part.source == "masked_image" for part in self.image_channels)

    @property
    def sees_depth(self) -> bool:
        """Whether a denoiser sees how near things are, beside the picture that it starts from."""
        return any(part.source == "depth" for part in self.image_channels)

    @property
    def enlarges(self) -> bool:
        """Whether a denoiser draws a picture of low resolution larger."""
        return self.sees_pixels or any(part.source == "low_resolution_latents" for part in self.image_channels)

    @property
    def sees_pixels(self) -> bool:
        """Whether a denoiser that draws a picture larger sees the small one itself, which nothing encodes then."""
        return any(part.source == "low_resolution" for part in self.image_channels)

    @property
    def enlargement(self) -> int:
        """How many times as wide and high a denoiser draws the picture that it is given."""
        if not self.enlarges or self.latent_space is None:
            return 1
        return self.latent_space.downscale if self.sees_pixels else 2

    @property
    def most_boxes(self) -> int:
        """How many boxes with phrases a row of a denoiser has room for; 0 where it takes none."""
        return next((int(spec.shape[1]) for spec in self.inputs if spec.name == "boxes"), 0)

    @property
    def inputs_beside_latents(self) -> set[str]:
        """The inputs that parts of the contract other than its conditioning speak of."""
        return {name for name, (said, _) in self._shapes_beside_latents().items() if said}

    def conditioning_outputs(self, clip_skip: int) -> dict[str, str]:
        """A text encoder's output for each array of conditioning by its name, `clip_skip` within `most_clip_skip`."""
        names = [array.name for array in self.conditioning]
        return dict(zip(names, names if clip_skip == 1 else self.skipped_layers[clip_skip - 2], strict=True))

    @property
    def num_train_timesteps(self) -> int | None:
        """How many timesteps a denoiser was trained on, by whichever schedule; None for other kinds."""
        schedule = self.noise_schedule if self.flow_schedule is None else self.flow_schedule
        return None if schedule is None else schedule.num_train_timesteps

    @model_validator(mode="after")
    def _holds_what_its_kind_needs(self) -> Self:
        for part in _NEEDED[self.kind]:
            if not getattr(self, part):
                raise ValueError(f"{part}: missing, and a {self.kind} needs it")
        return self

    @model_validator(mode="after")
    def _has_one_schedule_where_it_is_walked(self) -> Self:
        both = (self.noise_schedule, self.flow_schedule)
        found = sum(schedule is not None for schedule in both)
        if self.kind == Kind.DENOISER and found != 1:
            lack = "missing" if found == 0 else "there are both"
            raise ValueError(f"noise_schedule, flow_schedule: {lack}, and a {self.kind} needs one of the two")
        return self

    @model_validator(mode="after")
    def _names_each_array_once(self) -> Self:
        for part in ("inputs", "outputs", "conditioning"):
            names = [array.name for array in getattr(self, part)]
            if twice := sorted({name for name in names if names.count(name) > 1}):
                raise ValueError(f"{part}: {', '.join(twice)} is there more than once")
        return self

    @model_validator(mode="after")
    def _takes_what_its_parts_say(self) -> Self:
        inputs = {spec.name: spec for spec in self.inputs}
        for name, (said, shape) in self._shapes_beside_latents().items():
            if name not in inputs:
                if said:
                    raise ValueError(f"inputs: {name} is missing, and the contract says what is in it")
                continue
            if not said:
                raise ValueError(f"inputs: {name} is there, and the contract does not say what is in it")
            found = inputs[name].shape
            if len(found) != len(shape) or any(
                isinstance(dim, int) and dim != size for dim, size in zip(shape, found, strict=True)
            ):
                raise ValueError(f"{name}: has shape {shape_text(found)}, must be {shape_text(shape)}")
        if (self.noise_levels is None) != (self.low_resolution_schedule is None):
            raise ValueError("noise_levels, low_resolution_schedule: one without the other")
        return self

    def _shapes_beside_latents(self) -> dict[str, tuple[bool, tuple[Dimension, ...]]]:
        """The inputs that parts of a contract speak of: whether they do, and the shape that follows."""
        channels = sum(part.channels for part in self.image_channels)
        return {
            "image_channels": (channels > 0, ("batch", channels, "height", "width")),
            "time_ids": (bool(self.time_ids), ("batch", len(self.time_ids))),
            "noise_level": (self.noise_levels is not None, ("batch",)),
            "guidance": (self.embeds_guidance, ("batch",)),
        }

    @model_validator(mode="after")
    def _takes_all_of_a_box(self) -> Self:
        found = {spec.name: spec.shape for spec in self.inputs if spec.name in BOX_INPUTS}
        if not found:
            return self
        if missing := [name for name in BOX_INPUTS if name not in found]:
            raise ValueError(f"inputs: {', '.join(missing)} is missing beside {', '.join(found)}")
        texts = found["box_texts"]
        most, width = texts[1:] if len(texts) == 3 else ("a number of boxes", "a width")
        wanted = {
            "box_texts": ("batch", most if isinstance(most, int) else "a number of boxes", width),
            "boxes": ("batch", most, 4),
            "box_masks": ("batch", most),
            "boxes_on": ("batch",),
        }
        for name, shape in wanted.items():
            if found[name][1:] != shape[1:] or len(found[name]) != len(shape):
                raise ValueError(f"{name}: has shape {shape_text(found[name])}, must be {shape_text(shape)}")
        return self

    @model_validator(mode="after")
    def _gives_latents_the_channels_of_their_space(self) -> Self:
        if self.latent_space is None:
            return self
        channels = self.latent_space.channels
        for spec in self._named(_LATENTS[self.kind]):
            if len(spec.shape) != 4 or spec.shape[1] != channels:
                wanted = f"[batch, {channels}, height, width], as latent_space.channels is {channels}"
                raise ValueError(f"{spec.name}: has shape {shape_text(spec.shape)}, must be {wanted}")
        return self

    @model_validator(mode="after")
    def _skips_to_outputs_that_are_there(self) -> Self:
        if self.skipped_layers and self.kind != Kind.TEXT_ENCODER:
            raise ValueError(f"skipped_layers: must be empty, as a {self.kind} is no text encoder")
        outputs = {spec.name for spec in self.outputs}
        for clip_skip, names in enumerate(self.skipped_layers, 2):
            if len(names) != len(self.conditioning):
                wanted = f"{len(self.conditioning)}, one for each array of conditioning"
                raise ValueError(
                    f"skipped_layers: has {len(names)} names for clip_skip {clip_skip}, must have {wanted}"
                )
            if missing := [name for name in names if name not in outputs]:
                raise ValueError(f"skipped_layers: {', '.join(missing)} is no output")
        return self

    @model_validator(mode="after")
    def _gives_conditioning_its_width(self) -> Self:
        widths = {
            name: array.width
            for names in ((array.name for array in self.conditioning), *self.skipped_layers)
            for name, array in zip(names, self.conditioning, strict=True)
        }
        for spec in self._named(widths):
            width = widths[spec.name]
            if not spec.shape or spec.shape[-1] != width:
                raise ValueError(
                    f"{spec.name}: has shape {shape_text(spec.shape)}, must end in {width}, its conditioning's width"
                )
        return self

    @model_validator(mode="after")
    def _has_a_size_that_its_multiple_allows(self) -> Self:
        if self.latent_multiple != 1 and self.kind != Kind.DENOISER:
            raise ValueError(f"latent_multiple={self.latent_multiple}: must be 1, as a {self.kind} is no denoiser")
        size = () if self.latent_size is None else self.latent_size
        if any(side % self.latent_multiple for side in size):
            raise ValueError(
                f"latent_size={shape_text(size)}: its sides must be multiples of latent_multiple={self.latent_multiple}"
            )
        return self

    @model_validator(mode="after")
    def _has_only_what_its_kind_uses(self) -> Self:
        if self.kind == Kind.DENOISER:
            return self
        if self.guidance is not None:
            raise ValueError(f"guidance={self.guidance:g}: must be null, as a {self.kind} is no denoiser")
        for part in _DENOISERS_OWN:
            if part == "time_ids" and self.kind == Kind.CONTROLNET:
                # it is told what its denoiser is told
                continue
            default = Contract.model_fields[part].default
            if getattr(self, part) != default:
                nothing = "null" if default is None else "false" if default is False else "empty"
                raise ValueError(f"{part}: must be {nothing}, as a {self.kind} is no denoiser")
        return self

    @model_validator(mode="after")
    def _shows_every_channel(self) -> Self:
        if self.preview is None or self.latent_space is None:
            return self
        if len(self.preview.factors) != self.latent_space.channels:
            wanted = f"{self.latent_space.channels}, latent_space.channels"
            raise ValueError(f"preview.factors: has {len(self.preview.factors)} rows, must have {wanted}")
        return self

    def _named(self, names: Collection[str]) -> list[TensorSpec]:
        return [spec for spec in (*self.inputs, *self.outputs) if spec.name in names]


def shape_text(shape: Iterable[int | str]) -> str:
    """A shape as messages say it: [batch, 4, height, width]."""
    return f"[{', '.join(map(str, shape))}]"


_NEEDED = {
    Kind.TEXT_ENCODER: ("inputs", "outputs", "conditioning"),
    Kind.DENOISER: ("inputs", "outputs", "conditioning", "latent_space", "latent_size"),
    Kind.VAE_DECODER: ("inputs", "outputs", "latent_space"),
    Kind.VAE_ENCODER: ("inputs", "outputs", "latent_space"),
    Kind.PREVIEW_DECODER: ("inputs", "outputs", "latent_space"),
    Kind.CONTROLNET: ("inputs", "outputs", "conditioning", "latent_space"),
    Kind.ADAPTER: ("inputs", "outputs", "latent_space"),
    Kind.LORA: ("outputs",),
    Kind.IMAGE_ENCODER: ("inputs", "outputs", "preprocessing"),
    Kind.THIRD_TEXT_ENCODER: ("inputs", "outputs", "conditioning"),
}

# what a denoiser takes of a ControlNet and of an adapter: its outputs by these names, `control_mid` among them
CONTROL_PREFIXES = {Kind.CONTROLNET: "control_", Kind.ADAPTER: "adapter_"}

# What a denoiser takes of boxes with phrases: x0, y0, x1, y1 in shares of the picture [batch, boxes, 4], the vector of
# each phrase [batch, boxes, width], 1 for each box that is there [batch, boxes], and over 0 for a row that looks at
# them [batch]. A row without boxes that does look, such as one without the prompt, sees that there are none.
BOX_INPUTS = ("boxes", "box_texts", "box_masks", "boxes_on")

# a text encoder's vector of such a phrase [batch, width], by transformers' name
PHRASE = "pooler_output"

# what only a denoiser's contract says, and of time_ids a ControlNet's
_DENOISERS_OWN = (
    "flow_schedule",
    "preview",
    "latent_limit",
    "image_channels",
    "time_ids",
    "zeros_for_empty_negative",
    "noise_levels",
    "low_resolution_schedule",
    "embeds_guidance",
    "image_guidance",
)

# the arrays [batch, channels, height, width] of the latent space, by the names that the pipeline knows them by
_LATENTS: dict[Kind, tuple[str, ...]] = {
    Kind.TEXT_ENCODER: (),
    Kind.DENOISER: ("latents", "prediction"),
    Kind.VAE_DECODER: ("latents",),
    Kind.VAE_ENCODER: ("mean", "log_variance"),
    Kind.PREVIEW_DECODER: ("latents",),
    Kind.CONTROLNET: ("latents",),
    Kind.ADAPTER: (),
    Kind.LORA: (),
    Kind.IMAGE_ENCODER: (),
    Kind.THIRD_TEXT_ENCODER: (),
}
