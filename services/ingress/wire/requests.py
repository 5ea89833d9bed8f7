"""The bodies of the images face, as OpenAI names them; fields of ours stand beside them at the top level."""

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue

from diffusion.batcher_records import Priority
from services.ingress.wire.quality import Quality
from services.messages import PictureFormat

# forms of clients send a field that nobody filled in as an empty text
_EMPTY = BeforeValidator(lambda given: None if given == "" else given)

# a form has no lists
_LISTED = BeforeValidator(lambda given: (given.split(",") if given else None) if isinstance(given, str) else given)

_EXAMPLES: list[JsonValue] = [
    {"prompt": "a red apple, 3d style"},
    {"prompt": "a red apple, 3d style", "n": 2, "seed": 7, "steps": 25, "guidance": 5, "output_format": "webp"},
]


class HiresBody(BaseModel):
    """The second of two passes: the picture of the first is enlarged and drawn over, as by image to image."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    scale: float | None = Field(
        None,
        description="how many times as wide and high, 1 to 8, rounded down to what the network takes; 2 if nothing "
        "else is given",
    )
    width: int | None = Field(None, description="in pixels, in place of scale; alone it keeps the proportions")
    height: int | None = Field(None, description="likewise")
    strength: float | None = Field(
        None, description="0 to 1: the share of the steps that is walked, from the enlarged picture; left out: 0.75"
    )
    steps: int | None = Field(None, description="of which that share is walked; left out: those of the first pass")
    upscaler: str | None = Field(
        None,
        description="what enlarges: latent_bilinear, if left out, latent_nearest, latent_nearest_exact, "
        "latent_bicubic, latent_bilinear_antialiased or latent_bicubic_antialiased; or, of pixels, nearest, bilinear, "
        "bicubic or lanczos",
    )


class BoxBody(BaseModel):
    """What is to be in a box of the picture."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    phrase: str = Field(description="what is in it")
    box: list[float] = Field(
        description="x0, y0, x1, y1 from the left and top, in shares of the picture's width and height, 0 to 1"
    )


class ControlBody(BaseModel):
    """A control picture, what it is for, and how it holds a walk."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    model: str = Field(
        description="a ControlNet or T2I-Adapter, such as `emoji.controlnet.edges`, which is what is in production of "
        "it, or NAME@ALIAS or NAME/VERSION"
    )
    image: str = Field(
        description="the picture that it looks at, such as edges or depth, in base64; it is resized to what is drawn"
    )
    scale: float | None = Field(None, description="how strongly, 1 if left out")
    start: float | None = Field(None, description="hold from this fraction of the steps on, 0 if left out")
    end: float | None = Field(None, description="hold up to this fraction of the steps, 1 if left out")


class LoraBody(BaseModel):
    """A LoRA that pictures are drawn with."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    model: str = Field(
        description="which, such as `emoji.lora.style`, which is what is in production of it, or NAME@ALIAS or "
        "NAME/VERSION"
    )
    scale: float | None = Field(None, description="how strongly, 1 if left out; it may be negative")


class GenerationBody(BaseModel):
    """A request for pictures. Fields without an effect here take only the values that ask for nothing."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, json_schema_extra={"examples": _EXAMPLES})

    prompt: str = Field(description="what to draw")
    model: Annotated[str | None, _EMPTY] = Field(
        None, description="the name of a served bundle; left out: the only one"
    )
    n: int | None = Field(
        None,
        description="how many pictures, 1 if left out; picture k is drawn with seed + k, or, where subseed_strength "
        "varies the picture of one seed, with subseed + k",
    )
    size: Annotated[str | None, _EMPTY] = Field(
        None, description="`WIDTHxHEIGHT` in pixels; `auto` or left out: the bundle's own"
    )
    response_format: Annotated[Literal["b64_json", "url"] | None, _EMPTY] = Field(
        None, description="b64_json, if left out, or url: a link that shows the picture for a time"
    )
    output_format: Annotated[PictureFormat | None, _EMPTY] = Field(None, description="png if left out")
    output_compression: int | None = Field(
        None, description="0 to 100, for jpeg and webp: the quality, 100 if left out; png loses nothing and takes 100"
    )
    user: str | None = Field(
        None, description="whose request it is: users get equal shares of the denoiser, for each size"
    )
    quality: Annotated[Quality | None, _EMPTY] = Field(
        None,
        description="where steps is left out: low is half of the default steps; auto, if left out, standard and medium "
        "are the default; high and hd are twice, xhigh three and max four times as many",
    )
    style: Annotated[None, _EMPTY] = Field(
        None, description="pictures have the style that the prompt asks for: null alone"
    )
    background: Annotated[Literal["auto", "opaque"] | None, _EMPTY] = Field(None, description="pictures are opaque")
    moderation: Annotated[Literal["auto", "low"] | None, _EMPTY] = Field(None, description="nothing is filtered")
    stream: bool | None = Field(None, description="answer with server-sent events; false if left out")
    partial_images: int | None = Field(
        None,
        description="with stream: 0, if left out, to 3 previews of each picture on its way, spread over its steps",
    )
    progress: bool | None = Field(
        None, description="with stream: tell of every step in events of a type of ours; false if left out"
    )
    negative_prompt: str | None = Field(None, description="what to keep away from")
    weighting: Annotated[str | None, _EMPTY] = Field(
        None,
        description="how both prompts weigh their parts: none takes every sign as text, a1111 reads `(word:1.3)`, "
        "`[word]` and `BREAK`, compel `word+` and `(a phrase)1.3`; left out: the server's own, none unless set",
    )
    clip_skip: int | None = Field(
        None,
        description="which layer of the text encoder the picture is drawn by: 1, if left out, is the last, 2 the one "
        "before it; how many there are is the model's",
    )
    seed: int | None = Field(None, description="a whole number; left out: drawn afresh, and told in the answer")
    steps: int | None = Field(None, description="steps of the sampler")
    guidance: float | None = Field(None, description="0 ignores the prompt, 1 is the prompt alone, more insists")
    noise_level: int | None = Field(
        None,
        description="the noise on a picture that the model enlarges, a timestep; left out: 20",
    )
    image_guidance: float | None = Field(
        None,
        description="how much the picture insists beside the prompt, where the model edits by instruction; left out: "
        "the model's own",
    )
    guidance_rescale: float | None = Field(
        None, description="0, if left out, to 1: the share of what guidance adds to contrast that is taken back"
    )
    guidance_start: float | None = Field(None, description="guide from this fraction of the steps on, 0 if left out")
    guidance_end: float | None = Field(None, description="guide up to this fraction of the steps, 1 if left out")
    adaptive_guidance: float | None = Field(
        None,
        description="guide no more once the predictions with and without the prompt agree by this cosine, such as "
        "0.99, which saves the row without; left out: never",
    )
    skip_layers: Annotated[list[int] | None, _LISTED] = Field(
        None,
        description="SD 3: lead away from what is drawn without these layers of the denoiser, counted from 0; in a "
        "form with commas between. Left out: none, or 7, 8 and 9 with `skip_layer_guidance`",
    )
    skip_layer_guidance: float | None = Field(None, description="SD 3: how strongly, 2.8 if left out")
    skip_layer_guidance_start: float | None = Field(
        None, description="SD 3: after this fraction of the steps, 0.01 if left out"
    )
    skip_layer_guidance_end: float | None = Field(
        None, description="SD 3: before this fraction of the steps, 0.2 if left out"
    )
    sampler: str | None = Field(None, description="a sampler's name; those of diffusers, A1111 and ComfyUI will do")
    schedule: str | None = Field(None, description="how sigmas are spread: the bundle's own, if left out, karras, ...")
    eta: float | None = Field(None, description="ddim's or tcd's share of fresh noise, 0 to 1; left out: its own")
    rng: str | None = Field(None, description="whose noise a seed gives: torch, if left out, or philox (CUDA's)")
    subseed: int | None = Field(
        None, description="the seed towards which subseed_strength goes; left out: drawn afresh, and told in the answer"
    )
    subseed_strength: float | None = Field(
        None, description="how far to go from the noise of seed, 0 if left out, to that of subseed, 1"
    )
    original_height: int | None = Field(
        None,
        description="SDXL: the height of the picture that one like this was cut down from; left out, "
        "like the next three, the picture's own size",
    )
    original_width: int | None = Field(None, description="SDXL: its width")
    target_height: int | None = Field(None, description="SDXL, but for refiners: the height that it was cut down to")
    target_width: int | None = Field(None, description="SDXL, but for refiners: the width that it was cut down to")
    crop_top: int | None = Field(None, description="SDXL: how much of it was cut off at the top, 0 if left out")
    crop_left: int | None = Field(None, description="SDXL: how much of it was cut off at the left, 0 if left out")
    aesthetic_score: float | None = Field(
        None, description="SDXL's refiners: how well the picture looks, 0 to 10, 6 if left out"
    )
    negative_aesthetic_score: float | None = Field(
        None, description="SDXL's refiners: the same of what to keep away from, 2.5 if left out"
    )
    hires: HiresBody | None = Field(
        None, description="draw the picture small first, in `size`, then enlarge it and draw over it"
    )
    boxes: list[BoxBody] | None = Field(
        None, description="what is to be where, of models that look at boxes with phrases (GLIGEN)"
    )
    boxes_end: float | None = Field(
        None, description="the share of the steps, from the first on, in which boxes hold: 0 to 1, 0.3 if left out"
    )

    controls: list[ControlBody] | None = Field(
        None, description="pictures that hold what is drawn, by ControlNets and T2I-Adapters; none if left out"
    )
    image_prompts: list[str] | None = Field(
        None,
        description="pictures that it is to be like, each in base64, by an IP-Adapter; none if left out",
    )
    image_prompt_scale: float | None = Field(None, description="how much these weigh, 0 to 1, 1 if left out")
    loras: list[LoraBody] | None = Field(None, description="LoRAs that it is drawn with; none if left out")
    priority: Priority | None = Field(
        None, description="normal, if left out, high or low: which requests the denoiser serves more"
    )
    components: dict[str, str] | None = Field(
        None,
        description="versions other than the live ones, by kind, such as "
        '`{"vae_decoder": "emoji.vae_decoder@candidate"}` or `"emoji.vae_decoder/2"`; they must fit the rest',
    )
    store_latents: bool | None = Field(
        None, description="keep the final latents for a time, to be decoded again; false if left out"
    )
    deadline_s: float | None = Field(
        None,
        description="seconds from now after which nobody wants the picture; where that cannot be, 504 comes at once",
    )
    on_disconnect: Annotated[Literal["cancel", "keep"] | None, _EMPTY] = Field(
        None,
        description="where the caller goes away: cancel, if left out, or keep: the request is a job, `x-job-id`, that "
        "goes on",
    )


class EditBody(GenerationBody):
    """The fields of a form that brings a picture, `image`, and perhaps a `mask`: what is drawn, and how far from it."""

    strength: Annotated[float | None, _EMPTY] = Field(
        None,
        description="0 to 1: the share of the steps that is walked, from the picture with noise on it; left out: 0.8, "
        "with a mask 1, and for variations 0.6",
    )
    mask_blur: Annotated[float | None, _EMPTY] = Field(
        None, description="with a mask: blur it by a Gaussian of so many of its pixels, 0, if left out, to 64"
    )
    padding_mask_crop: Annotated[int | None, _EMPTY] = Field(
        None,
        description="with a mask: draw only what lies around its light part, so many pixels on each side, 0 to 256, in "
        "the whole size, and lay it back into the picture, which keeps its own",
    )
    boxes: Annotated[None, _EMPTY] = Field(None, description="boxes are drawn from noise alone: null alone")
    boxes_end: Annotated[None, _EMPTY] = Field(None, description="as there are no boxes: null alone")
    input_fidelity: Annotated[Literal["low"] | None, _EMPTY] = Field(
        None, description="strength says how close to the picture to stay"
    )


class VariationBody(EditBody):
    """The fields of a form that brings a picture to vary."""

    prompt: str = Field("", description="what to draw, if anything but the picture says so")
