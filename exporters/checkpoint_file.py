"""A checkpoint as its makers publish it: one safetensors file with the weights of all networks, and nothing else."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from transformers import CLIPTokenizer, T5Tokenizer

from exporters.checkpoint_folder import (
    INDEX_NAME,
    MAX_NOISE_LEVEL,
    PICKLED,
    class_of,
    pickle_text,
    read_json,
    read_tokenizer,
    zeros_for_empty_prompt,
)
from exporters.clip_vocabulary import clip_tokenizer
from exporters.errors import ExportError
from exporters.families import CONFIGS, Family, Part, Shapes, detect
from exporters.original_weights import load_original
from exporters.t5_vocabulary import t5_tokenizer

# where the file has each part's tensors, the first that is there
_PREFIXES: Mapping[str, tuple[str, ...]] = {
    "unet": ("model.diffusion_model.",),
    "transformer": ("model.diffusion_model.",),
    "vae": ("first_stage_model.",),
    "text_encoder": (
        "cond_stage_model.transformer.",
        "cond_stage_model.model.",
        "conditioner.embedders.0.transformer.",
        "text_encoders.clip_l.transformer.",
    ),
    "text_encoder_2": (
        "conditioner.embedders.1.model.",
        "conditioner.embedders.0.model.",
        "text_encoders.clip_g.transformer.",
    ),
    "text_encoder_3": ("text_encoders.t5xxl.transformer.",),
}
_THIRD, _THIRD_TOKENIZER = "text_encoder_3", "tokenizer_3"
# https://github.com/Stability-AI/ModelSpec
_MODELSPEC = {"epsilon": "epsilon", "v": "v_prediction"}


@dataclass(frozen=True)
class CheckpointFile:
    """The parts of a single file, each mapped into memory and converted to diffusers' names when it is asked for."""

    path: Path
    family: Family
    shapes: Shapes
    prediction_type: str | None

    @classmethod
    def open(
        cls, path: Path, configs: Path | None, prediction_type: Literal["epsilon", "v_prediction"] | None
    ) -> "CheckpointFile":
        """Read the header, and tell the family by it, or take the configurations in the folder `configs`.

        Raises:
            ExportError: it is a pickle or no safetensors file, its family is unknown, or how it predicts.
        """
        shapes, metadata = _read_header(path)
        if configs is not None:
            return cls(path, _family_of(configs), shapes, prediction_type)
        family = detect(shapes)
        told = prediction_type or _MODELSPEC.get(metadata.get("modelspec.prediction_type", ""))
        return cls(path, _predicting(family, told), shapes, told)

    def pipeline(self) -> str:
        """The class of diffusers that puts the family's parts together."""
        return self.family.pipeline

    def class_of(self, part: str) -> str | None:
        """The class of a part in its family."""
        if part == _THIRD_TOKENIZER:
            return None if self.class_of(_THIRD) is None else str(T5Tokenizer.__name__)
        if part in self.family.tokenizers:
            return str(CLIPTokenizer.__name__)
        if part not in self.family.parts:
            return None
        # published with and without it
        if part == _THIRD and not any(map(self._has, _PREFIXES[_THIRD])):
            return None
        return self.family.parts[part].network

    def require(self, part: str) -> None:
        """Refuse a network that the file lacks.

        Raises:
            ExportError: as said.
        """
        self._prefix(part)

    def network(self, part: str, network: Any) -> nn.Module:
        """A network with its weights in float32.

        Raises:
            ExportError: the file's tensors are not those of the network.
        """
        tensors = self._tensors(self._prefix(part))
        described = self.family.parts[part]
        try:
            module = load_original(network, described.config, described.changes, tensors)
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            raise ExportError(
                f"{part}: its tensors are not those of {self.family.name} ({type(error).__name__}: {error})"
            ) from None
        return module.eval().requires_grad_(False)

    def tokenizer(self, part: str) -> CLIPTokenizer:
        """A tokenizer: the configurations' own, or CLIP's."""
        source = self.family.tokenizers[part]
        if isinstance(source, str):
            return clip_tokenizer(source)
        tokenizer: CLIPTokenizer = read_tokenizer(source.parent, source.name)
        return tokenizer

    def third_tokenizer(self) -> T5Tokenizer:
        """The tokenizer of the third text encoder: the configurations' own, or T5's."""
        source = self.family.tokenizers.get(_THIRD_TOKENIZER)
        return read_tokenizer(source.parent, source.name, T5Tokenizer) if isinstance(source, Path) else t5_tokenizer()

    @property
    def max_noise_level(self) -> int:
        """The largest noise level of a picture that is enlarged."""
        return MAX_NOISE_LEVEL

    def scheduler(self, part: str = "scheduler") -> Mapping[str, Any]:
        """The configuration of one of the family's schedulers, with the prediction type of this file."""
        if part != "scheduler":
            return read_json(CONFIGS / "scheduler-x4-low-resolution", "config.json")
        config = read_json(self.family.scheduler.parent, self.family.scheduler.name)
        return config if self.prediction_type is None else {**config, "prediction_type": self.prediction_type}

    @property
    def zeros_for_empty_prompt(self) -> bool:
        """Whether an empty negative prompt is zeros in place of its encoding, where the pipeline may do so."""
        return self.family.zeros_for_empty_prompt

    def _prefix(self, part: str) -> str:
        for prefix in _PREFIXES[part]:
            if self._has(prefix):
                return prefix
        raise ExportError(f"{part}: {self.path.name} has no tensor below {' or '.join(_PREFIXES[part])}")

    def _has(self, prefix: str) -> bool:
        return any(name.startswith(prefix) for name in self.shapes)

    def _tensors(self, prefix: str) -> dict[str, Tensor]:
        with safe_open(self.path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in self.shapes if name.startswith(prefix)}


def _read_header(path: Path) -> tuple[Shapes, Mapping[str, str]]:
    if path.suffix in PICKLED:
        raise ExportError(pickle_text(path.name))
    if path.suffix != ".safetensors":
        raise ExportError(f"{path.name}: is neither a diffusers folder nor a .safetensors file")
    try:
        with safe_open(path, framework="pt") as file:
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
            return shapes, file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise ExportError(f"{path.name}: cannot be read ({type(error).__name__})") from None


def _predicting(family: Family, told: str | None) -> Family:
    """The family with the sides of latents that go with how it predicts."""
    if not family.predictions:
        return family
    if told is None:
        types = " or ".join(family.predictions)
        raise ExportError(f"{family.name}: does the denoiser predict {types}? Say so by --prediction-type")
    unet = family.parts["unet"]
    sized = dataclasses.replace(unet, changes={**unet.changes, "sample_size": family.predictions[told]})
    return dataclasses.replace(family, parts={**family.parts, "unet": sized})


def _family_of(configs: Path) -> Family:
    """What a folder in the layout of diffusers describes, whose weights are not read."""
    index = read_json(configs, INDEX_NAME)
    found = {part: class_of(index, part) for part in index}
    return Family(
        name=configs.absolute().name,
        pipeline=str(index.get("_class_name")),
        parts={part: Part(name, configs / part) for part, name in found.items() if name and part in _PREFIXES},
        scheduler=configs / "scheduler" / "scheduler_config.json",
        zeros_for_empty_prompt=zeros_for_empty_prompt(index),
        tokenizers={part: configs / part for part, name in found.items() if name and part.startswith("tokenizer")},
    )
