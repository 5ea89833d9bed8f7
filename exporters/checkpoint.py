"""A checkpoint in diffusers' parts: which networks it holds, and how its scheduler walks."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from diffusers import AutoencoderKL, SD3Transformer2DModel, UNet2DConditionModel
from torch import nn
from transformers import (
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPVisionModelWithProjection,
    T5EncoderModel,
    T5Tokenizer,
)

from components.contract import FlowSchedule, NoiseSchedule
from exporters.checkpoint_file import CheckpointFile
from exporters.checkpoint_folder import CheckpointFolder
from exporters.errors import ExportError
from exporters.scheduler import read_schedule

_TOKENIZERS = ("CLIPTokenizer", "CLIPTokenizerFast")
_SD = {
    "text_encoder": ("CLIPTextModel",),
    "tokenizer": _TOKENIZERS,
    "unet": ("UNet2DConditionModel",),
    "vae": ("AutoencoderKL",),
}
# refiners have the second encoder alone
_SDXL = {
    "text_encoder": ("CLIPTextModel", None),
    "text_encoder_2": ("CLIPTextModelWithProjection",),
    "tokenizer": (*_TOKENIZERS, None),
    "tokenizer_2": _TOKENIZERS,
    "unet": ("UNet2DConditionModel",),
    "vae": ("AutoencoderKL",),
}
_SD3 = {
    "text_encoder": ("CLIPTextModelWithProjection",),
    "text_encoder_2": ("CLIPTextModelWithProjection",),
    "text_encoder_3": ("T5EncoderModel", None),
    "tokenizer": _TOKENIZERS,
    "tokenizer_2": _TOKENIZERS,
    "tokenizer_3": ("T5Tokenizer", "T5TokenizerFast", None),
    "transformer": ("SD3Transformer2DModel",),
    "vae": ("AutoencoderKL",),
}
# a picture takes the text's place
_VARIATION = {
    "image_encoder": ("CLIPVisionModelWithProjection",),
    "unet": ("UNet2DConditionModel",),
    "vae": ("AutoencoderKL",),
}
# Which classes each part may be of, by the pipeline that names the whole; None: it may be missing.
PIPELINES: Mapping[str, Mapping[str, tuple[str | None, ...]]] = {
    "StableDiffusionPipeline": _SD,
    "StableDiffusionImg2ImgPipeline": _SD,
    "StableDiffusionInpaintPipeline": _SD,
    # its depth estimator is left where it is: requests bring the depth
    "StableDiffusionDepth2ImgPipeline": _SD,
    "StableDiffusionInstructPix2PixPipeline": _SD,
    "StableDiffusionUpscalePipeline": _SD,
    "StableDiffusionLatentUpscalePipeline": _SD,
    "StableDiffusionImageVariationPipeline": _VARIATION,
    "StableDiffusionGLIGENPipeline": _SD,
    "LatentConsistencyModelPipeline": _SD,
    "LatentConsistencyModelImg2ImgPipeline": _SD,
    "StableDiffusionXLPipeline": _SDXL,
    "StableDiffusionXLImg2ImgPipeline": _SDXL,
    "StableDiffusionXLInpaintPipeline": _SDXL,
    "StableDiffusion3Pipeline": _SD3,
    "StableDiffusion3Img2ImgPipeline": _SD3,
}
# those that walk with it whatever the scheduler's configuration says
_OFFSET_OF_ONE = frozenset(
    {"StableDiffusionPipeline", "StableDiffusionImg2ImgPipeline", "StableDiffusionInpaintPipeline"}
)
_THIRD = ("text_encoder_3", "tokenizer_3")
_TEXT_ENCODERS = {"CLIPTextModel": CLIPTextModel, "CLIPTextModelWithProjection": CLIPTextModelWithProjection}

PredictionType = Literal["epsilon", "v_prediction"]


class Parts(Protocol):
    """Where the parts of a checkpoint come from."""

    @property
    def path(self) -> Path:
        """The folder or the file."""
        ...

    def pipeline(self) -> str:
        """The class of diffusers that puts the parts together."""
        ...

    def class_of(self, part: str) -> str | None:
        """The class of a part; None if there is none."""
        ...

    def require(self, part: str) -> None:
        """Refuse a network whose weights cannot be read here, before any are."""
        ...

    def network(self, part: str, network: Any) -> nn.Module:
        """A network with its weights in float32."""
        ...

    def tokenizer(self, part: str) -> CLIPTokenizer:
        """A tokenizer."""
        ...

    def third_tokenizer(self) -> T5Tokenizer:
        """The tokenizer of the third text encoder."""
        ...

    def scheduler(self, part: str = "scheduler") -> Mapping[str, Any]:
        """The configuration of a scheduler."""
        ...

    @property
    def max_noise_level(self) -> int:
        """The largest noise level of a picture that is enlarged."""
        ...

    @property
    def zeros_for_empty_prompt(self) -> bool:
        """Whether an empty negative prompt is zeros in place of its encoding, where the pipeline may do so."""
        ...


@dataclass(frozen=True)
class Enlarging:
    """By what noise is put on a picture of low resolution, and below which timestep."""

    schedule: NoiseSchedule
    noise_levels: int


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose parts are all of kinds that we export; weights are read a network at a time, in float32."""

    parts: Parts
    without_t5: bool

    @classmethod
    def open(
        cls,
        path: Path,
        configs: Path | None = None,
        prediction_type: PredictionType | None = None,
        without_t5: bool = False,
    ) -> "Checkpoint":
        """Look at all names and classes of a diffusers folder, or of a single safetensors file; no weights are read.

        `configs` and `prediction_type` are for single files: a folder of configurations in the layout of diffusers in
        place of ours, and how the denoiser predicts, where the file does not tell. `without_t5` leaves out the third
        text encoder of SD 3.

        Raises:
            ExportError: it is neither, a part is of another class, or weights are not safetensors.
        """
        parts: Parts
        if path.is_dir():
            for option, given in (("--configs", configs), ("--prediction-type", prediction_type)):
                if given is not None:
                    raise ExportError(f"{option} {given}: is for single files; a folder has its own configurations")
            parts = CheckpointFolder.open(path, tuple(PIPELINES))
        else:
            parts = CheckpointFile.open(path, configs, prediction_type)
        _require_exportable(parts, but=_THIRD if without_t5 else ())
        return cls(parts, without_t5)

    @property
    def name(self) -> str:
        """The name of its folder or file."""
        return self.parts.path.absolute().name

    @property
    def projecting(self) -> int:
        """How many of the text encoders, from the last on, project a whole text for the denoiser."""
        if self.has_transformer:
            return 2
        return 0 if self.parts.class_of("text_encoder_2") is None else 1

    @property
    def upscales_latents(self) -> bool:
        """Whether it is for the pipeline that hands other text conditioning to its denoiser than the rest."""
        return self.parts.pipeline() == "StableDiffusionLatentUpscalePipeline"

    @property
    def has_transformer(self) -> bool:
        """Whether the denoiser is the transformer of SD 3."""
        return self.parts.class_of("transformer") is not None

    @property
    def takes_boxes(self) -> bool:
        """Whether requests may bring boxes with phrases."""
        return self.parts.pipeline() == "StableDiffusionGLIGENPipeline"

    @property
    def has_third_text_encoder(self) -> bool:
        """Whether there is a T5 beside the two of CLIP, and it is not to be left out."""
        return not self.without_t5 and self.parts.class_of("text_encoder_3") is not None

    @property
    def zeros_for_empty_prompt(self) -> bool:
        """Whether an empty negative prompt is zeros in place of its encoding."""
        return self.projecting == 1 and self.parts.zeros_for_empty_prompt

    @property
    def text_parts(self) -> tuple[str, ...]:
        """The names of the text encoders that are there, in their order."""
        return tuple(part for part in ("text_encoder", "text_encoder_2") if self.parts.class_of(part) is not None)

    def text_encoders(self) -> list[CLIPTextModel | CLIPTextModelWithProjection]:
        """The text encoders, in their order.

        Raises:
            ExportError: one cannot be read, or masks its padding.
        """
        encoders = [
            self.parts.network(part, _TEXT_ENCODERS[str(self.parts.class_of(part))]) for part in self.text_parts
        ]
        for encoder in encoders:
            if getattr(encoder.config, "use_attention_mask", False):
                raise ExportError("text_encoder: use_attention_mask is true; encoders that mask padding are unknown")
        return encoders

    def tokenizers(self) -> list[CLIPTokenizer]:
        """A tokenizer for each text encoder, in their order."""
        return [
            self.parts.tokenizer(part) for part in ("tokenizer", "tokenizer_2") if self.parts.class_of(part) is not None
        ]

    @property
    def has_image_encoder(self) -> bool:
        """Whether its denoiser looks at a picture in place of a text."""
        return self.parts.class_of("image_encoder") is not None and not self.text_parts

    def image_encoder(self) -> CLIPVisionModelWithProjection:
        """What sees a picture in place of a text."""
        return self.parts.network("image_encoder", CLIPVisionModelWithProjection)

    def third_text_encoder(self) -> T5EncoderModel:
        """The third text encoder, of a checkpoint that has it."""
        return self.parts.network("text_encoder_3", T5EncoderModel)

    def third_tokenizer(self) -> T5Tokenizer:
        """The tokenizer of the third text encoder."""
        return self.parts.third_tokenizer()

    def unet(self) -> UNet2DConditionModel:
        """The denoiser."""
        return self.parts.network("unet", UNet2DConditionModel)

    def transformer(self) -> SD3Transformer2DModel:
        """The denoiser of SD 3."""
        return self.parts.network("transformer", SD3Transformer2DModel)

    def vae(self) -> AutoencoderKL:
        """Decoder and encoder."""
        return self.parts.network("vae", AutoencoderKL)

    def schedule(self) -> NoiseSchedule | FlowSchedule:
        """How the denoiser was trained and how its scheduler walks, from the scheduler's configuration.

        Raises:
            ExportError: as `read_schedule`.
        """
        return read_schedule(self.parts.scheduler(), offset_of_one=self.parts.pipeline() in _OFFSET_OF_ONE)

    def enlarging(self) -> Enlarging:
        """By what noise is put on a picture that is enlarged.

        Raises:
            ExportError: as `read_schedule`, or it is that of a flow.
        """
        schedule = read_schedule(self.parts.scheduler("low_res_scheduler"))
        if not isinstance(schedule, NoiseSchedule):
            raise ExportError("low_res_scheduler: is that of a flow, by which no noise is put on pictures")
        return Enlarging(schedule, self.parts.max_noise_level + 1)


def _require_exportable(parts: Parts, but: Collection[str]) -> None:
    classes = PIPELINES.get(parts.pipeline())
    if classes is None:
        raise ExportError(
            f"{parts.path.absolute().name}: is for {parts.pipeline()}; {', '.join(PIPELINES)} can be exported"
        )
    for part, allowed in classes.items():
        if part in but:
            continue
        found = parts.class_of(part)
        if found not in allowed:
            raise ExportError(f"{part}: is {found}; {' or '.join(filter(None, allowed))} can be exported")
        if found is not None and not part.startswith("tokenizer"):
            parts.require(part)
    if _THIRD[0] in classes and _THIRD[0] not in but:
        _require_third_tokenizer(parts)


def _require_third_tokenizer(parts: Parts) -> None:
    if parts.class_of(_THIRD[0]) is not None and parts.class_of(_THIRD[1]) is None:
        raise ExportError("tokenizer_3: is missing, and text_encoder_3 is there; --without-t5 leaves both out")
