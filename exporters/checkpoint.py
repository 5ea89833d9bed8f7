"""A diffusers folder: which networks it holds, and how its scheduler walks."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from components.contract import FlowSchedule, NoiseSchedule
from exporters.errors import ExportError
from exporters.scheduler import read_schedule

INDEX_NAME = "model_index.json"
_PARTS = {
    "text_encoder": ("CLIPTextModel",),
    "tokenizer": ("CLIPTokenizer", "CLIPTokenizerFast"),
    "unet": ("UNet2DConditionModel",),
    "vae": ("AutoencoderKL",),
}
_NETWORKS = ("text_encoder", "unet", "vae")
PICKLED = (".bin", ".ckpt", ".pt", ".pth", ".pkl", ".pickle")


@dataclass(frozen=True)
class Checkpoint:
    """A folder in the layout of diffusers' StableDiffusionPipeline, whose parts are all of kinds that we export.

    Weights are read from safetensors files alone, a network at a time, in float32.
    """

    path: Path

    @classmethod
    def open(cls, path: Path) -> "Checkpoint":
        """Read the index and look at every file name; no weights are read.

        Raises:
            ExportError: the index is missing or wrong, a part is of another class, or weights are not safetensors.
        """
        index = read_json(path, INDEX_NAME)
        if index.get("_class_name") != "StableDiffusionPipeline":
            raise ExportError(
                f"{INDEX_NAME}: is for {index.get('_class_name')}; StableDiffusionPipeline can be exported"
            )
        for part, classes in _PARTS.items():
            entry = index.get(part)
            found = entry[1] if isinstance(entry, list) and len(entry) == 2 else None
            if found not in classes:
                raise ExportError(f"{part}: is {found}; {' or '.join(classes)} can be exported")
        for part in _NETWORKS:
            require_safetensors(path, part)
        return cls(path)

    def text_encoder(self) -> CLIPTextModel:
        """The text encoder."""
        encoder = self._load(CLIPTextModel, "text_encoder")
        if getattr(encoder.config, "use_attention_mask", False):
            raise ExportError("text_encoder: use_attention_mask is true; encoders that mask their padding are unknown")
        return encoder

    def tokenizer(self) -> CLIPTokenizer:
        """The tokenizer."""
        try:
            return CLIPTokenizer.from_pretrained(self.path / "tokenizer")
        except (OSError, ValueError, TypeError) as error:
            raise ExportError(f"tokenizer: cannot be read ({type(error).__name__})") from None

    def unet(self) -> UNet2DConditionModel:
        """The denoiser."""
        return self._load(UNet2DConditionModel, "unet", low_cpu_mem_usage=False)

    def vae(self) -> AutoencoderKL:
        """Decoder and encoder."""
        return self._load(AutoencoderKL, "vae", low_cpu_mem_usage=False)

    def schedule(self) -> NoiseSchedule | FlowSchedule:
        """How the denoiser was trained and how its scheduler walks, from the scheduler's configuration.

        Raises:
            ExportError: as `read_schedule`.
        """
        return read_schedule(read_json(self.path / "scheduler", "scheduler_config.json"))

    def _load(self, network: Any, part: str, **options: bool) -> Any:
        try:
            module = network.from_pretrained(
                self.path / part,
                use_safetensors=True,
                variant=_variant(self.path / part),
                torch_dtype=torch.float32,
                **options,
            )
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            raise ExportError(f"{part}: its weights or configuration cannot be read ({type(error).__name__})") from None
        return module.eval().requires_grad_(False)


def require_safetensors(path: Path, part: str) -> None:
    """Refuse a part without safetensors, naming pickles that are there instead.

    Raises:
        ExportError: as said.
    """
    folder = path / part
    if not folder.is_dir():
        raise ExportError(f"{part}: no such folder in {path.absolute().name}")
    if any(folder.glob("*.safetensors")):
        return
    pickled = sorted(file.name for file in folder.iterdir() if file.suffix in PICKLED)
    if pickled:
        raise ExportError(
            f"{part}: {', '.join(pickled)} is a pickle, which can run code when it is read; convert it to safetensors"
        )
    raise ExportError(f"{part}: has no .safetensors file")


def read_json(path: Path, name: str) -> dict[str, Any]:
    """The JSON object in a folder's file.

    Raises:
        ExportError: it cannot be read or is something else.
    """
    try:
        content = json.loads((path / name).read_text(encoding="utf-8"))
    except OSError as error:
        raise ExportError(f"{name}: cannot be read ({type(error).__name__}); is this a diffusers folder?") from None
    except ValueError:
        raise ExportError(f"{name}: is not JSON") from None
    if not isinstance(content, dict):
        raise ExportError(f"{name}: is not an object")
    return content


def _variant(folder: Path) -> str | None:
    """The fp16 files where a folder has no others: published checkpoints come as either."""
    return "fp16" if all(".fp16." in file.name for file in folder.glob("*.safetensors")) else None
