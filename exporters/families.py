"""The families of single-file checkpoints: what such a file does not say, and how its tensors tell which it is."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from exporters.errors import ExportError

CONFIGS = Path(__file__).parent / "configs"

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Part:
    """A network's class and the folder of its configuration, with what this family changes in it."""

    network: str
    config: Path
    changes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Family:
    """Models of one geometry: the pipeline of diffusers, its networks, its scheduler, its tokenizers.

    A tokenizer is its folder, or the token that CLIP's fills up with. `predictions` are the prediction types that such
    files are published with, where their tensors do not tell, and the side of the latents that each was trained on.
    """

    name: str
    pipeline: str
    parts: Mapping[str, Part]
    scheduler: Path
    tokenizers: Mapping[str, str | Path]
    predictions: Mapping[str, int] = field(default_factory=dict)
    zeros_for_empty_prompt: bool = True


def _part(network: str, config: str, **changes: Any) -> Part:
    return Part(network, CONFIGS / config, changes)


_END, _NOTHING = "<|endoftext|>", "!"
_CLIP_L = _part("CLIPTextModel", "clip-l")
_OPEN_CLIP_H = _part("CLIPTextModel", "open-clip-h")
_CLIP_G = _part("CLIPTextModelWithProjection", "open-clip-g")
_VAE_SD1, _VAE_SDXL, _VAE_SD3 = (_part("AutoencoderKL", f"vae-{name}") for name in ("sd1", "sdxl", "sd3"))


def _sd1(name: str, pipeline: str, channels: int) -> Family:
    parts = {
        "unet": _part("UNet2DConditionModel", "unet-sd1", in_channels=channels),
        "vae": _VAE_SD1,
        "text_encoder": _CLIP_L,
    }
    return Family(name, pipeline, parts, CONFIGS / "scheduler-sd1" / "config.json", {"tokenizer": _END})


def _sd2(name: str, pipeline: str, channels: int, predictions: Mapping[str, int]) -> Family:
    parts = {
        "unet": _part("UNet2DConditionModel", "unet-sd2", in_channels=channels),
        "vae": _VAE_SD1,
        "text_encoder": _OPEN_CLIP_H,
    }
    return Family(
        name, pipeline, parts, CONFIGS / "scheduler-sd1" / "config.json", {"tokenizer": _NOTHING}, predictions
    )


def _sdxl(name: str, pipeline: str, channels: int) -> Family:
    parts = {
        "unet": _part("UNet2DConditionModel", "unet-sdxl", in_channels=channels),
        "vae": _VAE_SDXL,
        "text_encoder": _CLIP_L,
        "text_encoder_2": _CLIP_G,
    }
    tokenizers = {"tokenizer": _END, "tokenizer_2": _NOTHING}
    return Family(name, pipeline, parts, CONFIGS / "scheduler-sdxl" / "config.json", tokenizers)


def _sd3(name: str) -> Family:
    parts = {
        "transformer": _part("SD3Transformer2DModel", f"mmdit-{name}"),
        "vae": _VAE_SD3,
        "text_encoder": _part("CLIPTextModelWithProjection", "clip-l"),
        "text_encoder_2": _CLIP_G,
        "text_encoder_3": _part("T5EncoderModel", "t5-xxl"),
    }
    tokenizers = {"tokenizer": _END, "tokenizer_2": _NOTHING}
    return Family(name, "StableDiffusion3Pipeline", parts, CONFIGS / "scheduler-sd3" / "config.json", tokenizers)


_ALL = (
    _sd1("sd1", "StableDiffusionPipeline", 4),
    _sd1("sd1-inpainting", "StableDiffusionInpaintPipeline", 9),
    _sd1("sd1-instruct", "StableDiffusionInstructPix2PixPipeline", 8),
    _sd2("sd2", "StableDiffusionPipeline", 4, {"epsilon": 64, "v_prediction": 96}),
    _sd2("sd2-inpainting", "StableDiffusionInpaintPipeline", 9, {}),
    _sd2("sd2-depth", "StableDiffusionDepth2ImgPipeline", 5, {}),
    Family(
        "x4-upscaler",
        "StableDiffusionUpscalePipeline",
        {
            "unet": _part("UNet2DConditionModel", "unet-x4"),
            "vae": _part("AutoencoderKL", "vae-x4"),
            "text_encoder": _OPEN_CLIP_H,
        },
        CONFIGS / "scheduler-x4" / "config.json",
        {"tokenizer": _NOTHING},
    ),
    _sdxl("sdxl", "StableDiffusionXLPipeline", 4),
    _sdxl("sdxl-inpainting", "StableDiffusionXLInpaintPipeline", 9),
    Family(
        "sdxl-refiner",
        "StableDiffusionXLImg2ImgPipeline",
        {
            "unet": _part("UNet2DConditionModel", "unet-sdxl-refiner"),
            "vae": _VAE_SDXL,
            "text_encoder_2": _CLIP_G,
        },
        CONFIGS / "scheduler-sdxl" / "config.json",
        {"tokenizer_2": _NOTHING},
        zeros_for_empty_prompt=False,
    ),
    _sd3("sd3-medium"),
    _sd3("sd3.5-medium"),
    _sd3("sd3.5-large"),
)
FAMILIES = {family.name: family for family in _ALL}

_UNET, _MMDIT = "model.diffusion_model.input_blocks.", "model.diffusion_model.joint_blocks."
# by the width of the first convolution, the channels that it takes, and the width of the conditioning
_UNETS = {
    (320, 4, 768): "sd1",
    (320, 9, 768): "sd1-inpainting",
    (320, 8, 768): "sd1-instruct",
    (320, 4, 1024): "sd2",
    (320, 9, 1024): "sd2-inpainting",
    (320, 5, 1024): "sd2-depth",
    (256, 7, 1024): "x4-upscaler",
    (320, 4, 2048): "sdxl",
    (320, 9, 2048): "sdxl-inpainting",
    (384, 4, 1280): "sdxl-refiner",
}
# by the width, and the side of the table of positions
_MMDITS = {
    (1536, 192): "sd3-medium",
    (1536, 384): "sd3.5-medium",
    (2432, 192): "sd3.5-large",
}


def detect(shapes: Shapes) -> Family:
    """The family whose geometry the tensors of a single file have, by their names and shapes.

    Raises:
        ExportError: none has; the message says what was found, and which there are.
    """
    known = f"known are {', '.join(FAMILIES)}; another geometry takes a folder of configurations"
    if f"{_UNET}0.0.weight" in shapes:
        width, channels, *_ = shapes[f"{_UNET}0.0.weight"]
        contexts = [
            shape[1]
            for name, shape in shapes.items()
            if name.startswith(_UNET) and name.endswith("attn2.to_k.weight") and len(shape) == 2
        ]
        found = (width, channels, contexts[0] if contexts else 0)
        if found in _UNETS:
            return FAMILIES[_UNETS[found]]
        raise ExportError(
            f"a U-Net of width {found[0]} that takes {found[1]} channels and conditioning {found[2]} wide: {known}"
        )
    if f"{_MMDIT}0.x_block.attn.proj.weight" in shapes:
        width = shapes[f"{_MMDIT}0.x_block.attn.proj.weight"][0]
        positions = shapes.get("model.diffusion_model.pos_embed", (1, 0, 0))[1]
        side = round(positions**0.5)
        if (width, side) in _MMDITS:
            return FAMILIES[_MMDITS[width, side]]
        raise ExportError(f"a transformer of width {width} with positions for {side} by {side} patches: {known}")
    raise ExportError(f"holds no denoiser (no tensor below {_UNET} or {_MMDIT}): {known}")
