"""A checkpoint as diffusers saves it: a folder with an index, and a folder for each part."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import CLIPTokenizer, T5Tokenizer

from exporters.errors import ExportError

INDEX_NAME = "model_index.json"
_PART_CONFIG = "config.json"
PICKLED = (".bin", ".ckpt", ".pt", ".pth", ".pkl", ".pickle")

# of StableDiffusionUpscalePipeline
MAX_NOISE_LEVEL = 350


@dataclass(frozen=True)
class CheckpointFolder:
    """The parts of a folder, whose weights are read from safetensors files alone."""

    path: Path
    index: Mapping[str, Any]

    @classmethod
    def open(cls, path: Path, exportable: Sequence[str]) -> "CheckpointFolder":
        """Read the index; `exportable` are the pipelines to name where a folder has none.

        Raises:
            ExportError: the index is missing or wrong; of the folder of one network the message names its class.
        """
        if not (path / INDEX_NAME).exists() and (path / _PART_CONFIG).exists():
            config = read_json(path, _PART_CONFIG)
            found = config.get("_class_name") or ", ".join(config.get("architectures") or ("an unknown class",))
            raise ExportError(
                f"{path.absolute().name}: is {found} alone; the folder of a whole {' or '.join(exportable)} can be "
                "exported"
            )
        return cls(path, read_json(path, INDEX_NAME))

    def pipeline(self) -> str:
        """The class that the index is for."""
        return str(self.index.get("_class_name"))

    def class_of(self, part: str) -> str | None:
        """The class that the index has for a part."""
        return class_of(self.index, part)

    def require(self, part: str) -> None:
        """Refuse a part without safetensors.

        Raises:
            ExportError: as `require_safetensors`.
        """
        require_safetensors(self.path, part)

    def network(self, part: str, network: Any) -> nn.Module:
        """A network with its weights in float32.

        Raises:
            ExportError: its files cannot be read.
        """
        return read_network(self.path / part, network)  # type: ignore[no-any-return]

    def tokenizer(self, part: str) -> CLIPTokenizer:
        """A tokenizer.

        Raises:
            ExportError: it cannot be read.
        """
        return read_tokenizer(self.path, part)

    def third_tokenizer(self) -> T5Tokenizer:
        """The tokenizer of the third text encoder.

        Raises:
            ExportError: it cannot be read.
        """
        return read_tokenizer(self.path, "tokenizer_3", T5Tokenizer)

    def scheduler(self, part: str = "scheduler") -> Mapping[str, Any]:
        """The configuration of a scheduler."""
        return read_json(self.path / part, "scheduler_config.json")

    @property
    def max_noise_level(self) -> int:
        """The largest noise level of a picture that is enlarged; diffusers' default where the index has none."""
        return int(self.index.get("max_noise_level", MAX_NOISE_LEVEL))

    @property
    def zeros_for_empty_prompt(self) -> bool:
        """Whether an empty negative prompt is zeros in place of its encoding, where the pipeline may do so."""
        return zeros_for_empty_prompt(self.index)


def read_network(folder: Path, network: Any) -> Any:
    """The network of a class in a folder, with its weights, from safetensors files alone, in float32.

    Raises:
        ExportError: its files cannot be read.
    """
    try:
        module = network.from_pretrained(
            folder, use_safetensors=True, variant=_variant(folder), torch_dtype=torch.float32
        )
    except (OSError, ValueError, TypeError, RuntimeError, KeyError) as error:
        name = folder.absolute().name
        raise ExportError(f"{name}: its weights or configuration cannot be read ({type(error).__name__})") from None
    return module.eval().requires_grad_(False)


def class_of(index: Mapping[str, Any], part: str) -> str | None:
    """The class that an index of diffusers has for a part."""
    entry = index.get(part)
    return str(entry[1]) if isinstance(entry, list) and len(entry) == 2 and entry[1] is not None else None


def zeros_for_empty_prompt(index: Mapping[str, Any]) -> bool:
    """Whether an index of diffusers asks for zeros in place of an empty negative prompt, as it does by default."""
    return bool(index.get("force_zeros_for_empty_prompt", True))


def read_tokenizer(path: Path, part: str, tokenizer: Any = CLIPTokenizer) -> Any:
    """The tokenizer of that class in the folder `part` of a diffusers folder.

    Raises:
        ExportError: it cannot be read.
    """
    try:
        return tokenizer.from_pretrained(path / part)
    except (OSError, ValueError, TypeError, ImportError) as error:
        raise ExportError(f"{part}: cannot be read ({type(error).__name__})") from None


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
    if pickled := sorted(file.name for file in folder.iterdir() if file.suffix in PICKLED):
        raise ExportError(f"{part}: {pickle_text(', '.join(pickled))}")
    raise ExportError(f"{part}: has no .safetensors file")


def pickle_text(name: str) -> str:
    """Why a pickle is refused."""
    return f"{name} is a pickle, which can run code when it is read; convert it to safetensors"


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
