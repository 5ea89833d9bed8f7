"""The bodies of A1111's face, with its names and defaults; what cannot be honoured takes only what asks for nothing."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue

# never quoted in an error: texts of the caller's own, and pictures
SECRET = (
    "prompt",
    "negative_prompt",
    "hr_prompt",
    "hr_negative_prompt",
    "styles",
    "infotext",
    "init_images",
    "mask",
    "image",
    "script_args",
)
# fields of a few values each of which does something
CHOICES = ("resize_mode", "inpainting_fill")


def _inert(*values: Any) -> BeforeValidator:
    """Take null and the values with which clients ask for nothing; nothing else does anything here."""
    return BeforeValidator(lambda given: None if given in values else given)


def _switch(given: Any) -> Any:
    # clients of A1111 say 0 and 1 too
    return bool(given) if isinstance(given, int) and given in (0, 1) else given


_Off = Annotated[None, _inert(False), Field(description="false alone: there is no such thing here")]
_Zero = Annotated[None, _inert(0), Field(description="0 alone: there is no such thing here")]
_Empty = Annotated[None, _inert("", "None"), Field(description="empty alone: there is no such thing here")]
_Text = Annotated[str | None, _inert("")]
_SAME = Field(description="with enable_hr: empty, or the first pass's own")
_SecondText = Annotated[str | None, _SAME]
_Switch = Annotated[bool | None, BeforeValidator(_switch)]


class OptionsBody(BaseModel):
    """Options to set, or as they are; one that is null or empty stays as it is."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    sd_model_checkpoint: _Text = Field(None, description="the served bundle, by its name or title")
    sd_checkpoint_hash: _Text = Field(None, description="that bundle's")
    sd_vae: _Text = Field(None, description="Automatic: the live version; or a name that GET sd-vae lists")
    CLIP_stop_at_last_layers: Annotated[int | None, _inert("")] = Field(
        None, description="the layer of the text encoder: 1 the last, 2 the one before it, ..."
    )
    emphasis: _Text = Field(None, description="how signs in a prompt weigh: Original as A1111 has it, None, Compel")
    randn_source: _Text = Field(None, description="whose noise a seed gives: CPU, NV")
    samples_format: Annotated[Literal["png"] | None, _inert("")] = Field(
        None, description="`png` alone: `send_images` sends PNG"
    )
    eta_noise_seed_delta: Annotated[Literal[0] | None, _inert("")] = Field(None, description="0 alone")


class DrawingBody(BaseModel):
    """What text to image and image to image have in common."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    prompt: str | None = Field("", description="what to draw")
    negative_prompt: str | None = Field("", description="what to keep away from")
    styles: Annotated[None, _inert([])] = Field(None, description="an empty list alone: there are none")
    seed: int | None = Field(-1, description="-1: drawn afresh, and told in `info`")
    subseed: int | None = Field(-1, description="-1: drawn afresh, and told in `info`")
    subseed_strength: float | None = Field(0, description="how far to go from the noise of seed, 0, to subseed's, 1")
    seed_resize_from_h: Annotated[None, _inert(-1, 0)] = Field(None, description="-1 or 0 alone: noise is of the size")
    seed_resize_from_w: Annotated[None, _inert(-1, 0)] = Field(None, description="-1 or 0 alone: noise is of the size")
    sampler_name: str | None = Field(None, description="as GET samplers names it, perhaps with a schedule after it")
    sampler_index: str | None = Field(None, description="the sampler's name where sampler_name is null")
    scheduler: str | None = Field(None, description="as GET schedulers names it; null: automatic")
    steps: int | None = Field(50, description="steps of the sampler")
    cfg_scale: float | None = Field(7.0, description="0 ignores the prompt, 1 is the prompt alone, more insists")
    width: int | None = Field(None, description="in pixels; left out: the checkpoint's own")
    height: int | None = Field(None, description="in pixels; left out: the checkpoint's own")
    batch_size: int | None = Field(1, description="pictures drawn together")
    n_iter: int | None = Field(1, description="batches, drawn one after the other")
    eta: float | None = Field(None, description="of DDIM and TCD; 1 is any other sampler's own")
    s_min_uncond: _Zero = None
    s_churn: _Zero = None
    s_tmin: _Zero = None
    s_tmax: _Zero = None
    s_noise: Annotated[None, _inert(1)] = Field(None, description="1 alone: there is no such thing here")
    restore_faces: _Off = None
    tiling: _Off = None
    refiner_checkpoint: _Empty = None
    refiner_switch_at: float | None = Field(None, description="does nothing without a refiner")
    override_settings: OptionsBody | None = Field(None, description="options of this request alone")
    override_settings_restore_afterwards: _Switch = Field(
        True, description="true alone, where there are override_settings: POST options sets what stays"
    )
    script_name: Annotated[str | None, _inert("", "None")] = Field(None, description="there are none")
    script_args: list[JsonValue] | None = Field(None, description="does nothing without a script")
    alwayson_scripts: dict[str, JsonValue] | None = Field(None, description="there are none")
    comments: Annotated[None, _inert({})] = Field(None, description="an empty object alone")
    disable_extra_networks: _Switch = Field(False, description="take `<lora:...>` and the like as words")
    send_images: _Switch = Field(True, description="whether the answer holds the pictures")
    save_images: _Off = None
    do_not_save_samples: _Switch = Field(False, description="nothing is saved either way")
    do_not_save_grid: _Switch = Field(False, description="nothing is saved either way")
    force_task_id: str | None = Field(None, description="by which progress, interrupt and skip find the request")
    infotext: str | None = Field(None, description="gives what the other fields do not")


class Txt2ImgBody(DrawingBody):
    """A request for pictures of a prompt. What belongs to the second pass does nothing without `enable_hr`."""

    enable_hr: _Switch = Field(False, description="draw a second pass over the picture, enlarged")
    denoising_strength: float | None = Field(None, description="of the second pass; 0.75 if left out")
    firstphase_width: _Zero = None
    firstphase_height: _Zero = None
    firstpass_image: _Empty = None
    hr_scale: float | None = Field(None, description="how many times as wide and high; 2 if left out")
    hr_upscaler: str | None = Field(
        None, description="as GET latent-upscale-modes or GET upscalers names it; Latent if left out"
    )
    hr_second_pass_steps: int | None = Field(
        None, description="the steps that the second pass walks; 0, or left out: as many as the first"
    )
    hr_resize_x: int | None = Field(None, description="width in pixels in place of hr_scale; 0: in proportion")
    hr_resize_y: int | None = Field(None, description="height in pixels in place of hr_scale; 0: in proportion")
    hr_checkpoint_name: _SecondText = None
    hr_sampler_name: _SecondText = None
    hr_scheduler: _SecondText = None
    hr_prompt: _SecondText = None
    hr_negative_prompt: _SecondText = None


class Img2ImgBody(DrawingBody):
    """A request for pictures that start from one."""

    init_images: list[str] | None = Field(None, description="one picture, in base64")
    denoising_strength: float | None = Field(0.75, description="the share of the steps that is walked")
    resize_mode: Literal[0, 1, 2] | None = Field(0, description="0 just resize, 1 crop and resize, 2 resize and fill")
    image_cfg_scale: float | None = Field(
        None, description="of checkpoints that edit by instruction; others take 1.5 alone"
    )
    mask: str | None = Field(None, description="in base64: what is light, or where it has alpha opaque, is drawn anew")
    mask_blur: int | None = Field(None, description="pixels, both ways, in place of the two that follow")
    mask_blur_x: int | None = Field(4, description="pixels")
    mask_blur_y: int | None = Field(4, description="pixels")
    inpainting_fill: Literal[0, 1] | None = Field(0, description="0: from the colours around; 1: from the picture")
    inpaint_full_res: _Switch = Field(True, description="draw what is masked alone, in the whole size")
    inpaint_full_res_padding: int | None = Field(0, description="pixels around what is masked that are drawn too")
    inpainting_mask_invert: _Switch = Field(False, description="draw what is not masked")
    initial_noise_multiplier: Annotated[None, _inert(1)] = Field(None, description="1 alone")
    latent_mask: _Empty = None
    include_init_images: _Switch = Field(False, description="whether the answer's parameters hold the pictures")


class ExtraBody(BaseModel):
    """A request to enlarge a picture."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    image: str = Field(description="in base64")
    resize_mode: Literal[0, 1] | None = Field(0, description="0: by upscaling_resize; 1: to a width and height")
    show_extras_results: _Switch = Field(True, description="the picture is in the answer either way")
    gfpgan_visibility: _Zero = None
    codeformer_visibility: _Zero = None
    codeformer_weight: float | None = Field(None, description="does nothing without CodeFormer")
    upscaling_resize: float | None = Field(2, description="how many times as wide and high")
    upscaling_resize_w: int | None = Field(512, description="in pixels")
    upscaling_resize_h: int | None = Field(512, description="in pixels")
    upscaling_crop: _Switch = Field(True, description="cut what is over the width or height")
    upscaler_1: str | None = Field("None", description="as GET upscalers names it")
    upscaler_2: str | None = Field("None", description="another one, whose picture is blended in")
    extras_upscaler_2_visibility: float | None = Field(0, description="0 to 1: how much of it")
    upscale_first: _Switch = Field(False, description="does nothing without a restorer of faces")


class PngInfoBody(BaseModel):
    """A request for what a picture's file says."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    image: str = Field(description="in base64")
