"""What a request for pictures may ask for beside its prompt, by the names of the server's own fields."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, Required, TypeAlias

from pydantic import ConfigDict, with_config
from typing_extensions import Doc, TypedDict

PictureFormat: TypeAlias = Literal["png", "jpeg", "webp"]
Quality: TypeAlias = Literal["auto", "standard", "low", "medium", "high", "hd", "xhigh", "max"]
Priority: TypeAlias = Literal["high", "normal", "low"]


@with_config(ConfigDict(extra="forbid"))
class Hires(TypedDict, total=False):
    """The second of two passes; by `scale`, or to a width and height, of which one alone keeps the proportions."""

    scale: float
    width: int
    height: int
    strength: float
    steps: int
    upscaler: str


class PhraseBox(TypedDict):
    """What is to be in a box: x0, y0, x1, y1 from the picture's left and top, in shares of its width and height."""

    phrase: str
    box: Sequence[float]


class Control(TypedDict, total=False):
    """A picture, such as edges or depth, that holds what is drawn, and the ControlNet or T2I-Adapter that it is for."""

    model: Required[str]
    image: Required[bytes | Path]
    scale: float
    start: float
    end: float


class Lora(TypedDict, total=False):
    """A LoRA that pictures are drawn with."""

    model: Required[str]
    scale: float


class Settings(TypedDict, total=False):
    """What a request for pictures may say beside its prompt and pictures; the server checks it."""

    n: Annotated[int, Doc("how many pictures; the next is drawn with the next seed")]
    size: Annotated[str, Doc("WIDTHxHEIGHT in pixels; the bundle's own if not given")]
    seed: Annotated[int, Doc("which picture of the prompt; drawn afresh if not given")]
    negative_prompt: Annotated[str, Doc("what to keep away from")]
    weighting: Annotated[str, Doc("how the prompts weigh their parts: none, a1111 or compel")]
    clip_skip: Annotated[int, Doc("the text encoder's layer: 1 is the last, 2 the one before it")]
    steps: Annotated[int, Doc("how many steps to walk")]
    quality: Annotated[Quality, Doc("how many steps, where steps is not given")]
    guidance: Annotated[float, Doc("0 ignores the prompt, 1 is the prompt alone")]
    noise_level: Annotated[int, Doc("the noise on a picture, of models that enlarge it")]
    image_guidance: Annotated[float, Doc("how much the picture insists, of models that edit by instruction")]
    guidance_rescale: Annotated[float, Doc("take back that share of what guidance burns, 0 to 1")]
    guidance_start: Annotated[float, Doc("guide from that fraction of the steps on")]
    guidance_end: Annotated[float, Doc("guide up to that fraction of the steps")]
    adaptive_guidance: Annotated[float, Doc("guide no more once the two predictions agree by this cosine")]
    skip_layers: Annotated[Sequence[int], Doc("SD 3: lead away from what is drawn without these layers")]
    skip_layer_guidance: Annotated[float, Doc("SD 3: how strongly; 2.8 if not given")]
    skip_layer_guidance_start: Annotated[float, Doc("SD 3: after that fraction of the steps; 0.01 if not given")]
    skip_layer_guidance_end: Annotated[float, Doc("SD 3: before that fraction of the steps; 0.2 if not given")]
    sampler: Annotated[str, Doc("a sampler's name; those of diffusers, A1111 and ComfyUI will do")]
    schedule: Annotated[str, Doc("how sigmas are spread, such as karras")]
    eta: Annotated[float, Doc("share of fresh noise, of ddim and tcd")]
    rng: Annotated[str, Doc("whose noise a seed gives: torch or philox")]
    subseed: Annotated[int, Doc("whose noise to go towards; drawn afresh if not given")]
    subseed_strength: Annotated[float, Doc("how far to go there, 0 to 1")]
    original_height: Annotated[
        int, Doc("SDXL: what a training picture like it was cut down from; its own if not given")
    ]
    original_width: Annotated[int, Doc("SDXL: the same, its width")]
    target_height: Annotated[int, Doc("SDXL's base: what it was cut down to; its own height if not given")]
    target_width: Annotated[int, Doc("SDXL's base: the same, its width")]
    crop_top: Annotated[int, Doc("SDXL: how many pixels were cut off at the top")]
    crop_left: Annotated[int, Doc("SDXL: how many pixels were cut off at the left")]
    aesthetic_score: Annotated[float, Doc("SDXL's refiner: how well the picture looks, 0 to 10")]
    negative_aesthetic_score: Annotated[float, Doc("SDXL's refiner: the same of what to keep away from")]
    hires: Annotated[
        Hires, Doc("a second pass over it, enlarged: scale or width and height, strength, steps, upscaler")
    ]
    output_format: Annotated[PictureFormat, Doc("of the file; png if not given")]
    output_compression: Annotated[int, Doc("quality of a jpeg or webp file, 0 to 100")]
    image_prompt_scale: Annotated[float, Doc("how much the pictures weigh that it is to be like, 0 to 1")]
    loras: Annotated[Sequence[Lora], Doc("a LoRA to draw with: MODEL, or MODEL=SCALE")]
    components: Annotated[Mapping[str, str], Doc("another version: KIND=NAME@ALIAS or KIND=NAME/VERSION")]
    store_latents: Annotated[bool, Doc("keep the latents for a time, to be decoded again")]
    priority: Annotated[Priority, Doc("which requests the denoiser serves more")]
    deadline_s: Annotated[float, Doc("seconds from now after which nobody wants the picture")]
    user: Annotated[str, Doc("for whom it is: users share the denoiser, and own their latents")]
    model: Annotated[str, Doc("the name of the served bundle")]


class BoxSettings(TypedDict, total=False):
    """What a request from noise alone may say of what is to be where."""

    boxes: Annotated[Sequence[PhraseBox], Doc("what is to be where, of models that look at boxes: X0,Y0,X1,Y1=PHRASE")]
    boxes_end: Annotated[float, Doc("the share of the steps in which boxes hold, 0 to 1")]


class EditSettings(TypedDict, total=False):
    """What a request may say of the picture that it starts from."""

    mask_blur: Annotated[float, Doc("blur the mask by so many of its pixels")]
    padding_mask_crop: Annotated[int, Doc("draw only what lies around the mask, so many pixels on each side")]
    strength: Annotated[float, Doc("how much of the picture may change, 0 to 1")]


class CommonOptions(Settings, total=False):
    """What a request takes beside its prompt, whatever it begins with; `/docs` of a server tells the limits."""

    image_prompts: Annotated[Sequence[bytes | Path], Doc("a picture that it is to be like")]
    controls: Annotated[
        Sequence[Control], Doc("a picture that holds what is drawn: MODEL=FILE, and perhaps ,scale=0.8,start=0,end=0.6")
    ]


class Options(CommonOptions, BoxSettings, total=False):
    """What `generate` takes beside the prompt."""


class EditOptions(CommonOptions, EditSettings, total=False):
    """What `edit` and `vary` take beside picture and prompt."""


class DecodeOptions(TypedDict, total=False):
    """What `decode` takes beside the latents' id."""

    output_format: PictureFormat
    output_compression: int
    user: str
