"""What a request may ask for: the defaults, the limits, and the one place that checks them."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from components.contract import IMAGE_PROMPT, Contract
from components.errors import ComponentError
from components.messages import LEAST_TILE, MOST_OVERLAP, MOST_TILE, ImageRequest, PhraseBox, Tiling
from diffusion.errors import UnknownNameError, unknown_name
from diffusion.noise import DEFAULT_RNG, LARGEST_SEED, SOURCES
from diffusion.samplers import SAMPLERS
from diffusion.samplers.aliases import find_choice, find_schedule_name
from diffusion.sigma_schedules import DEFAULT, SIGMA_SCHEDULES
from pipeline.boxes import check_boxes
from pipeline.checks import check_name, check_number, check_text, check_whole
from pipeline.errors import RequestError, refuse
from pipeline.framing import FRAMING, check_framing
from pipeline.hires import check_hires, within_hires
from pipeline.loras import check_loras
from pipeline.masks import MOST_BLUR, MOST_PADDING
from pipeline.picture_size import picture_size
from pipeline.prompts.weighting import WEIGHTINGS, check_prompt
from pipeline.skipping import SKIPPING, check_skipping
from pipeline.trajectories import Trajectories

# of a bundle that names none; diffusers takes 7.5, and smaller networks look burnt at that
_GUIDANCE = 5.0

# of a picture that is enlarged, diffusers' default
_NOISE_LEVEL = 20

# the share of a walk in which boxes hold, diffusers' default
_BOXES_END = 0.3

# A denoiser's attention may grow with the square of the pixels, and far from the size that it was trained for it
# repeats itself: so that size tells the most pixels. Small networks have so many in any case.
_OWN_SIZES = 4
_ALWAYS_PIXELS = 1024 * 1024

# fresh seeds stay readable, and exact in JSON's numbers
_FRESH_SEEDS = 2**32


class RequestRules(BaseModel):
    """The defaults and limits of a deployment; a bundle's contract adds its own: size, its multiple, timesteps."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    default_steps: int = Field(25, ge=1, description="steps of a request that names none")
    default_guidance: float | None = Field(
        None, ge=0, description="guidance of a request that names none; unset: the bundle's own, or 5 if it has none"
    )
    default_sampler: str = Field(
        "ddim", description="of a request that names none; where the bundle is of another family, ddim or flow_euler"
    )
    default_weighting: str = Field(
        "none", description=f"how a prompt weighs its parts where the request names none: {', '.join(WEIGHTINGS)}"
    )
    max_prompt_characters: int = Field(4000, ge=1, description="of the prompt, and of the negative prompt")
    max_prompt_chunks: int = Field(
        1,
        ge=1,
        le=64,
        description="how many times the text encoder's token limit a prompt may take, each part encoded on its own; "
        "what is longer is cut",
    )
    max_steps: int = Field(150, ge=1, description="the most steps; a bundle has its training timesteps at most")
    max_guidance: float = Field(50.0, ge=0, description="the strongest guidance")
    max_images: int = Field(10, ge=1, description="the most pictures of one request")
    min_side: int = Field(64, ge=1, description="the smallest width and height in pixels, if a bundle's own is larger")
    max_pixels: int | None = Field(
        None,
        ge=1,
        description="the most pixels of one picture; unset: four times those of the bundle's own size, twice as wide "
        f"and high, and at least {_ALWAYS_PIXELS}",
    )
    max_whole_pixels: int = Field(
        1024 * 1024,
        ge=LEAST_TILE**2,
        description="the most pixels of a picture that the VAE encodes or decodes as a whole; it takes a larger one in "
        "tiles, so that it needs no more memory",
    )
    tile_side: int = Field(
        512, ge=LEAST_TILE, le=MOST_TILE, multiple_of=LEAST_TILE, description="width and height of a tile in pixels"
    )
    tile_overlap: float = Field(
        0.25, ge=0, le=MOST_OVERLAP, description="the share of its side that a tile has in common with the next"
    )
    default_strength: float = Field(
        0.8, gt=0, le=1, description="strength of a request with a picture that names none; with a mask it is 1"
    )
    max_controls: int = Field(
        4, ge=0, description="the most control pictures of one request, by ControlNets and adapters together"
    )
    max_control_scale: float = Field(2.0, ge=0, description="the strongest scale of a control picture")
    max_source_pixels: int = Field(
        16 * 1024 * 1024, ge=1, description="the most pixels of a picture or mask that a request brings"
    )
    max_image_prompts: int = Field(4, ge=0, le=64, description="the most pictures that a request is to be like")
    max_loras: int = Field(4, ge=0, le=64, description="the most LoRAs of one request")
    max_boxes: int = Field(
        30, ge=0, description="the most boxes with phrases of one request; a bundle has its own limit"
    )

    @model_validator(mode="after")
    def _defaults_are_within_limits(self) -> Self:
        if self.default_sampler not in SAMPLERS:
            raise ValueError(str(unknown_name("default_sampler", self.default_sampler, SAMPLERS)))
        if self.default_weighting not in WEIGHTINGS:
            raise ValueError(str(unknown_name("default_weighting", self.default_weighting, WEIGHTINGS)))
        for name, value, most in (
            ("default_steps", self.default_steps, self.max_steps),
            ("default_guidance", self.default_guidance, self.max_guidance),
        ):
            if value is not None and value > most:
                raise ValueError(f"{name}={value:g}: must be at most {most:g}")
        if self.tile_side**2 > self.max_whole_pixels:
            raise ValueError(
                f"tile_side={self.tile_side}: a tile must have at most max_whole_pixels={self.max_whole_pixels} pixels"
            )
        return self

    def most_pixels(self, contract: Contract) -> int:
        """The most pixels of one picture by a denoiser's contract."""
        if self.max_pixels is not None:
            return self.max_pixels
        space, size = contract.latent_space, contract.latent_size
        own = 0 if space is None or size is None else size[0] * size[1] * space.downscale**2
        return max(_ALWAYS_PIXELS, _OWN_SIZES * own)

    def tiling(self, width: int, height: int) -> Tiling | None:
        """The tiles in which the VAE takes a picture of so many pixels; None where it takes it as a whole."""
        if width * height <= self.max_whole_pixels:
            return None
        return Tiling(side=self.tile_side, overlap=self.tile_overlap)


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestFields:
    """A request as it came, types unchecked; None takes the default.

    `sampler` may be any name that `find_choice` knows, with a schedule in it unless `schedule` names one. A seed of
    None is drawn afresh, and so is a subseed of None where `subseed_strength` is not 0, its default. `rng` is by
    default "torch", `eta` the sampler's own, `clip_skip` 1. The whole walk is guided, and not rescaled, unless the
    fields beside `guidance` say otherwise; they are those of `Walk`. `image` is the width and height of the picture
    that it starts from, if it brings one. `mask` says whether it brings a mask of what to draw anew, `depth` whether it
    brings a map of how near things are. `loras` is as `check_loras` takes it, `hires` as `check_hires` does, `boxes` as
    `check_boxes`. `image_prompts` counts the pictures that it is to be like.
    """

    prompt: str
    negative_prompt: str = ""
    weighting: str | None = None
    clip_skip: int | None = None
    steps: int | None = None
    strength: float | None = None
    guidance: float | None = None
    image_guidance: float | None = None
    noise_level: int | None = None
    guidance_rescale: float | None = None
    guidance_start: float | None = None
    guidance_end: float | None = None
    adaptive_guidance: float | None = None
    skip_layers: Sequence[int] | None = None
    skip_layer_guidance: float | None = None
    skip_layer_guidance_start: float | None = None
    skip_layer_guidance_end: float | None = None
    sampler: str | None = None
    schedule: str | None = None
    eta: float | None = None
    rng: str | None = None
    seed: int | None = None
    subseed: int | None = None
    subseed_strength: float | None = None
    original_height: int | None = None
    original_width: int | None = None
    target_height: int | None = None
    target_width: int | None = None
    crop_top: int | None = None
    crop_left: int | None = None
    aesthetic_score: float | None = None
    negative_aesthetic_score: float | None = None
    n: int = 1
    width: int | None = None
    height: int | None = None
    image: tuple[int, int] | None = None
    mask: bool = False
    depth: bool = False
    mask_blur: float | None = None
    padding_mask_crop: int | None = None
    loras: object = ()
    image_prompts: int = 0
    image_prompt_scale: float | None = None
    hires: object = None
    boxes: object = ()
    boxes_end: float | None = None


def check_request(
    fields: RequestFields,
    contract: Contract,
    rules: RequestRules,
    most_clip_skip: int = 1,
    known_loras: Sequence[str] | None = (),
) -> ImageRequest:
    """Fill in the defaults and check every field, before anything is allocated.

    `contract` is the denoiser's, `most_clip_skip` the text encoder's, which always has a last layer. `known_loras` are
    the LoRAs that a request may name, None where others know that.

    Raises:
        RequestError: a field is outside its limits.
        ComponentError: the contract is no denoiser's.
    """
    trained = contract.num_train_timesteps
    if trained is None or contract.latent_space is None or contract.latent_size is None:
        raise ComponentError(f"{contract.kind}: a request is checked against a denoiser's contract")
    _require_pictures(fields, contract)
    # a picture says enough
    least = 1 if fields.image is None and contract.reads_texts else 0
    check_text("prompt", fields.prompt, least, rules.max_prompt_characters)
    check_text("negative_prompt", fields.negative_prompt, 0, rules.max_prompt_characters)
    weighting = _weighting(fields, rules)
    clip_skip = 1 if fields.clip_skip is None else fields.clip_skip
    check_whole("clip_skip", clip_skip, 1, most_clip_skip)
    most_steps = min(rules.max_steps, trained)
    steps = min(rules.default_steps, most_steps) if fields.steps is None else fields.steps
    check_whole("steps", steps, 1, most_steps)
    guidance = _default_guidance(contract, rules) if fields.guidance is None else fields.guidance
    check_number("guidance", guidance, rules.max_guidance)
    sampler, schedule = _walk(fields, contract, rules)
    rng = DEFAULT_RNG if fields.rng is None else fields.rng
    check_name("rng", rng, SOURCES)
    check_whole("n", fields.n, 1, rules.max_images)
    subseed, subseed_strength = _variation(fields)
    asked, limits = (fields.width, fields.height), (rules.min_side, rules.most_pixels(contract))
    width, height = picture_size(asked, fields.image, contract, limits)
    strength = _strength(fields, contract, rules)
    _lay_out(contract, (sampler, schedule), (width, height), steps, strength)
    hires = None
    if fields.hires is not None:
        if fields.image is not None:
            raise RequestError("hires", "hires: must be left out with an image")
        hires, (width, height) = check_hires(fields.hires, (width, height), contract, limits, (steps, most_steps))
        try:
            _lay_out(contract, (sampler, schedule), (width, height), hires.steps, hires.strength)
        except RequestError as error:
            raise within_hires(error) from None
        hires = replace(hires, tiling=rules.tiling(hires.first_width, hires.first_height))
    start, end = _interval(fields)
    boxes, boxes_end = _boxes(fields, contract, rules)
    return ImageRequest(
        prompt=fields.prompt,
        negative_prompt=fields.negative_prompt,
        prompt_chunks=_prompt_chunks(contract, rules),
        weighting=weighting,
        clip_skip=clip_skip,
        loras=check_loras(fields.loras, known_loras, rules.max_loras),
        image_prompt_scale=_image_prompt_scale(fields, contract, rules),
        boxes=boxes,
        boxes_end=boxes_end,
        steps=steps,
        strength=strength,
        guidance=float(guidance),
        image_guidance=_image_guidance(fields, contract, rules),
        noise_level=_noise_level(fields, contract),
        guidance_rescale=_share("guidance_rescale", fields.guidance_rescale, 0.0),
        guidance_start=start,
        guidance_end=end,
        adaptive_guidance=_agreement(fields.adaptive_guidance),
        sampler=sampler,
        schedule=schedule,
        eta=_eta(sampler, fields.eta),
        rng=rng,
        seed=_seed("seed", fields.seed, fields.n),
        subseed=subseed,
        subseed_strength=subseed_strength,
        n=fields.n,
        width=width,
        height=height,
        tiling=rules.tiling(width, height),
        hires=hires,
        mask_blur=_mask_blur(fields),
        padding_mask_crop=_padding(fields),
        **check_skipping({name: getattr(fields, name) for name in SKIPPING}, contract, rules.max_guidance),
        **check_framing({name: getattr(fields, name) for name in FRAMING}, contract),
    )


def _lay_out(contract: Contract, walk: tuple[str, str], size: tuple[int, int], steps: int, strength: float) -> None:
    """Refuse a walk, by a sampler and a sigma schedule, that there is not for a picture of that width and height."""
    assert contract.latent_space is not None, "check_request has seen to it"
    (sampler, schedule), (width, height), downscale = walk, size, contract.latent_space.downscale
    latents = (height // downscale, width // downscale)
    Trajectories.of(contract).lay_out(sampler, steps, schedule, latents, strength=strength)


def _image_prompt_scale(fields: RequestFields, contract: Contract, rules: RequestRules) -> float | None:
    if fields.image_prompts == 0:
        if fields.image_prompt_scale is not None:
            raise refuse("image_prompt_scale", fields.image_prompt_scale, "left out without image_prompts")
        return None
    inputs = {spec.name for spec in contract.inputs}
    if IMAGE_PROMPT not in inputs:
        raise RequestError("image_prompts", "image_prompts: must be left out, as this bundle takes none")
    if fields.image_prompt_scale is not None and "image_prompt_scale" not in inputs:
        limit = "left out, as this model looks at nothing else"
        raise refuse("image_prompt_scale", fields.image_prompt_scale, limit)
    if fields.image_prompts > rules.max_image_prompts:
        raise refuse("image_prompts", f"{fields.image_prompts} pictures", f"at most {rules.max_image_prompts}")
    return _share("image_prompt_scale", fields.image_prompt_scale, 1.0)


def _boxes(
    fields: RequestFields, contract: Contract, rules: RequestRules
) -> tuple[tuple[PhraseBox, ...], float | None]:
    most = min(rules.max_boxes, contract.most_boxes)
    boxes = check_boxes(fields.boxes, most, rules.max_prompt_characters)
    if not boxes:
        if fields.boxes_end is not None:
            raise refuse("boxes_end", fields.boxes_end, "left out without boxes")
        return (), None
    if fields.image is not None:
        raise RequestError("boxes", "boxes: must be left out with an image, as they are drawn from noise alone")
    return boxes, _share("boxes_end", fields.boxes_end, _BOXES_END)


def least_fields(contract: Contract) -> RequestFields:
    """What a request must bring at least, for a denoiser's contract."""
    size = None
    if contract.image_channels and contract.latent_size is not None and contract.latent_space is not None:
        downscale, larger = contract.latent_space.downscale, contract.enlargement
        height, width = (side * downscale // larger for side in contract.latent_size)
        size = (width, height)
    texts = contract.reads_texts
    return RequestFields(
        prompt="-" if texts else "",
        image=size,
        mask=contract.sees_mask,
        depth=contract.sees_depth,
        image_prompts=0 if texts else 1,
    )


def _require_no_texts(fields: RequestFields) -> None:
    for field in ("prompt", "negative_prompt"):
        if getattr(fields, field):
            raise RequestError(field, f"{field}: must be left out, as this model draws by pictures alone")
    if not fields.image_prompts:
        raise RequestError("image_prompts", "image_prompts: is required, as this model draws by pictures alone")


def _require_pictures(fields: RequestFields, contract: Contract) -> None:
    if not contract.reads_texts:
        _require_no_texts(fields)
    if fields.depth and not contract.sees_depth:
        raise RequestError("depth", "depth: must be left out, as this model sees none")
    if contract.sees_mask or contract.sees_depth:
        second = ("mask", fields.mask) if contract.sees_mask else ("depth", fields.depth)
        does = "draws a part of a picture anew" if contract.sees_mask else "changes a picture by its depth"
        for field, there in (("image", fields.image is not None), second):
            if not there:
                raise RequestError(field, f"{field}: is required, as this model {does}")
    elif contract.image_channels:
        does = "enlarges a picture" if contract.enlarges else "edits a picture by instruction"
        if fields.image is None:
            raise RequestError("image", f"image: is required, as this model {does}")
        if fields.mask:
            raise RequestError("mask", f"mask: must be left out, as this model {does}, all of it")


def _weighting(fields: RequestFields, rules: RequestRules) -> str:
    weighting = rules.default_weighting if fields.weighting is None else fields.weighting
    for field, text in (("prompt", fields.prompt), ("negative_prompt", fields.negative_prompt)):
        check_prompt(field, text, weighting)
    return weighting


def _prompt_chunks(contract: Contract, rules: RequestRules) -> int:
    # a network of a fixed number of tokens takes one part only
    texts = {array.name for array in contract.conditioning if array.tokens is not None}
    fixed = any(spec.name in texts and isinstance(spec.shape[1], int) for spec in contract.inputs)
    return 1 if fixed else rules.max_prompt_chunks


def _default_guidance(contract: Contract, rules: RequestRules) -> float:
    for guidance in (rules.default_guidance, contract.guidance):
        if guidance is not None:
            # a bundle's own must not make a request that names none fail
            return min(guidance, rules.max_guidance)
    return min(_GUIDANCE, rules.max_guidance)


def fresh_seed() -> int:
    """A seed that nobody chose, 0..2^32 - 1."""
    return secrets.randbelow(_FRESH_SEEDS)


def _default_sampler(contract: Contract, rules: RequestRules) -> str:
    # one default cannot serve both families, and a request that names none must not fail for that
    flow = contract.flow_schedule is not None
    return rules.default_sampler if SAMPLERS[rules.default_sampler].flow == flow else "flow_euler" if flow else "ddim"


def _walk(fields: RequestFields, contract: Contract, rules: RequestRules) -> tuple[str, str]:
    """Sampler and sigma schedule by our names, from whatever names they came by."""
    given = _default_sampler(contract, rules) if fields.sampler is None else fields.sampler
    if not isinstance(given, str):
        raise refuse("sampler", given, unknown_name("sampler", "", SAMPLERS).limit)
    try:
        choice = find_choice(given)
    except UnknownNameError as unknown:
        raise refuse("sampler", given, unknown.limit) from None
    if fields.schedule is None:
        return choice.sampler, choice.schedule
    if not isinstance(fields.schedule, str):
        raise refuse("schedule", fields.schedule, unknown_name("schedule", "", SIGMA_SCHEDULES).limit)
    try:
        schedule = find_schedule_name(fields.schedule)
    except UnknownNameError as unknown:
        raise refuse("schedule", fields.schedule, unknown.limit) from None
    if choice.schedule not in (DEFAULT, schedule):
        raise refuse("schedule", fields.schedule, f"left out or {choice.schedule}, which the sampler's name says")
    return choice.sampler, schedule


def _strength(fields: RequestFields, contract: Contract, rules: RequestRules) -> float:
    if fields.mask and fields.image is None:
        raise RequestError("mask", "mask: must be left out without an image")
    if fields.image is None:
        if fields.strength is not None:
            raise refuse("strength", fields.strength, "left out without an image")
        return 1.0
    if contract.image_guidance is not None or contract.enlarges:
        # it begins with noise alone, and sees the picture beside it
        if fields.strength not in (None, 1):
            raise refuse("strength", fields.strength, "1 or left out, as this model draws from noise alone")
        return 1.0
    # diffusers' defaults, 0.8 and 1
    return _share("strength", fields.strength, 1.0 if fields.mask else rules.default_strength)


def _mask_blur(fields: RequestFields) -> float:
    blur = 0.0 if fields.mask_blur is None else fields.mask_blur
    check_number("mask_blur", blur, MOST_BLUR)
    if blur and not fields.mask:
        raise refuse("mask_blur", blur, "0 or left out without a mask")
    return float(blur)


def _padding(fields: RequestFields) -> int | None:
    if fields.padding_mask_crop is None:
        return None
    if not fields.mask:
        raise refuse("padding_mask_crop", fields.padding_mask_crop, "left out without a mask")
    check_whole("padding_mask_crop", fields.padding_mask_crop, 0, MOST_PADDING)
    return fields.padding_mask_crop


def _image_guidance(fields: RequestFields, contract: Contract, rules: RequestRules) -> float | None:
    if contract.image_guidance is None:
        if fields.image_guidance is not None:
            raise refuse("image_guidance", fields.image_guidance, "left out, as this model edits by no instruction")
        return None
    if fields.image_guidance is None:
        return min(contract.image_guidance, rules.max_guidance)
    check_number("image_guidance", fields.image_guidance, rules.max_guidance)
    return float(fields.image_guidance)


def _noise_level(fields: RequestFields, contract: Contract) -> int | None:
    if contract.noise_levels is None:
        if fields.noise_level is not None:
            raise refuse("noise_level", fields.noise_level, "left out, as this model enlarges no picture")
        return None
    level = min(_NOISE_LEVEL, contract.noise_levels - 1) if fields.noise_level is None else fields.noise_level
    check_whole("noise_level", level, 0, contract.noise_levels - 1)
    return level


def _eta(sampler: str, given: float | None) -> float:
    row = SAMPLERS[sampler]
    if given is None:
        return row.eta
    eta = _share("eta", given, row.eta)
    if eta != row.eta and not row.takes_eta:
        raise refuse("eta", given, f"{row.eta:g} or left out for {sampler}, which has no share of noise to choose")
    return eta


def _share(field: str, given: float | None, default: float) -> float:
    share = default if given is None else given
    check_number(field, share, 1.0)
    return float(share)


def _interval(fields: RequestFields) -> tuple[float, float]:
    start = _share("guidance_start", fields.guidance_start, 0.0)
    end = _share("guidance_end", fields.guidance_end, 1.0)
    if not start < end:
        if fields.guidance_start is None:
            raise refuse("guidance_end", fields.guidance_end, f"more than guidance_start, {start:g}")
        raise refuse("guidance_start", fields.guidance_start, f"less than guidance_end, {end:g}")
    return start, end


def _agreement(given: float | None) -> float | None:
    if given is None:
        return None
    agreement = _share("adaptive_guidance", given, 1.0)
    if agreement == 0:
        raise refuse("adaptive_guidance", given, "over 0 and at most 1")
    return agreement


def _seed(field: str, given: int | None, n: int) -> int:
    seed = fresh_seed() if given is None else given
    check_whole(field, seed, 0, LARGEST_SEED - (n - 1))
    return seed


def _variation(fields: RequestFields) -> tuple[int | None, float]:
    strength = 0.0 if fields.subseed_strength is None else fields.subseed_strength
    check_number("subseed_strength", strength, 1.0)
    subseed = _seed("subseed", fields.subseed, fields.n)
    return (None, 0.0) if strength == 0 else (subseed, float(strength))
