"""What is trained beside a checkpoint and changes it: LoRAs and textual inversions, read from safetensors alone."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from diffusers.loaders import StableDiffusionLoraLoaderMixin
from diffusers.utils import convert_state_dict_to_diffusers, convert_state_dict_to_peft, convert_unet_state_dict_to_peft
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from components.contract import shape_text
from components.folder import sha256
from components.manifest import Edit
from exporters.checkpoint_folder import PICKLED, pickle_text
from exporters.errors import ExportError

# how many layers a block has in SDXL, whose LoRAs may have the names of its makers' own code, counted over all blocks
_SDXL_BLOCKS = SimpleNamespace(layers_per_block=2)

# names of parts of what is trained like a LoRA and is none, with what it is called
_OTHER_KINDS = {"dora_scale": "DoRA", "hada_w1": "LoHa", "lokr_w1": "LoKr", "oft_diag": "OFT", "oft_blocks": "OFT"}


@dataclass(frozen=True)
class LoraLayer:
    """What a LoRA adds to a layer of weight W: scale * up @ down, of `rank`, in the layer's own shapes."""

    down: Tensor
    up: Tensor
    scale: float

    @property
    def rank(self) -> int:
        """How many rows `down` has."""
        return len(self.down)


@dataclass(frozen=True)
class Lora:
    """A LoRA file of the layout of kohya, of diffusers or of peft, and how strongly it is merged.

    `state` and `alphas` are as diffusers' loader gives them, `metadata` what peft wrote, by names that begin with
    `unet.`, `text_encoder.` and, of SDXL, `text_encoder_2.`.
    """

    path: Path
    scale: float
    state: Mapping[str, Tensor]
    alphas: Mapping[str, float]
    metadata: Mapping[str, Any] | None

    @classmethod
    def read(cls, path: Path, scale: float = 1.0) -> "Lora":
        """Read a file.

        Raises:
            ExportError: it is a pickle or cannot be read, or is something else than a LoRA.
        """
        names = read_safetensors(path)
        for part, kind in _OTHER_KINDS.items():
            if any(part in name for name in names):
                raise ExportError(f"{path.name}: is a {kind}; LoRAs can be exported")
        try:
            state, alphas, metadata = StableDiffusionLoraLoaderMixin.lora_state_dict(
                str(path),
                use_safetensors=True,
                local_files_only=True,
                return_lora_metadata=True,
                unet_config=_SDXL_BLOCKS,
            )
        except (ValueError, KeyError, RuntimeError, OSError, IndexError) as error:
            raise ExportError(f"{path.name}: is no LoRA that diffusers reads: {error}") from None
        known = ("unet.", "text_encoder.", "text_encoder_2.")
        if strange := next((name for name in state if not name.startswith(known) or "lora" not in name), None):
            raise ExportError(f"{path.name}: is no LoRA of a Stable Diffusion checkpoint: it has {strange}")
        return cls(path, scale, state, {} if alphas is None else alphas, metadata)

    @property
    def edit(self) -> Edit:
        """What `component.json` says of it."""
        return Edit(kind="lora", file=self.path.name, sha256=sha256(self.path), scale=self.scale)

    @cached_property
    def unet(self) -> dict[str, LoraLayer]:
        """What it adds to the layers of a U-Net, by their names."""
        return self._layers("unet", self._peft("unet", convert_unet_state_dict_to_peft))

    @cached_property
    def text_encoder(self) -> dict[str, LoraLayer]:
        """What it adds to the layers of a CLIP text encoder, by their names in transformers 5."""
        state = self._peft("text_encoder", _text_names)
        return self._layers("text_encoder", {name.removeprefix("text_model."): part for name, part in state.items()})

    @cached_property
    def text_encoder_2(self) -> dict[str, LoraLayer]:
        """What it adds to the layers of SDXL's second text encoder, which has a projection beside the encoder."""
        return self._layers("text_encoder_2", self._peft("text_encoder_2", _text_names))

    def require_fit(self, network: nn.Module, part: str) -> None:
        """Refuse a LoRA that adapts other layers than `network` has, the checkpoint's `part`.

        Raises:
            ExportError: it does; the first such layer is named.
        """
        own = dict(network.named_modules())
        for name, layer in getattr(self, part).items():
            weight = getattr(own.get(name), "weight", None)
            if weight is None:
                raise ExportError(
                    f"{self.path.name}: is for another family: it adapts {name}, which this checkpoint's {part} lacks"
                )
            taken, given = layer.down.shape[1], layer.up.shape[0]
            if weight.ndim < 2 or (given, taken) != tuple(weight.shape[:2]):
                raise ExportError(
                    f"{self.path.name}: is for another family: {name} takes {taken} channels and gives {given} there, "
                    f"in this checkpoint its weight is {shape_text(weight.shape)}"
                )

    def _peft(self, part: str, convert: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> dict[str, Tensor]:
        own = {name.removeprefix(f"{part}."): each for name, each in self.state.items() if name.startswith(f"{part}.")}
        try:
            return convert(own) if own else {}
        except ValueError as error:
            raise ExportError(f"{self.path.name}: is of no layout that diffusers reads: {error}") from None

    def _layers(self, part: str, state: Mapping[str, Tensor]) -> dict[str, LoraLayer]:
        layers = {}
        for name, down in state.items():
            if name.endswith(".lora_A.weight"):
                layer = name.removesuffix(".lora_A.weight")
                up = state.get(f"{layer}.lora_B.weight")
                if up is None or up.shape[1] != len(down):
                    raise ExportError(f"{self.path.name}: {layer}: its two factors do not fit each other")
                layers[layer] = LoraLayer(down.float(), up.float(), self._scale(part, layer, len(down)))
        return layers

    def _scale(self, part: str, layer: str, rank: int) -> float:
        if self.metadata is None:
            alpha = self.alphas.get(f"{part}.{layer}.alpha", self.alphas.get(f"{part}.text_model.{layer}.alpha", rank))
            return float(alpha) / rank
        patterns = self.metadata.get(f"{part}.alpha_pattern") or {}
        alpha = patterns.get(layer, self.metadata[f"{part}.lora_alpha"])
        stable = self.metadata.get(f"{part}.use_rslora", False)
        return float(alpha) / (rank**0.5 if stable else rank)


@dataclass(frozen=True)
class TextualInversion:
    """Vectors that stand for one new word; `token` is the word, if it is not the file's own."""

    path: Path
    token: str | None
    state: dict[str, Tensor]

    @classmethod
    def read(cls, path: Path, token: str | None = None) -> "TextualInversion":
        """Read a file.

        Raises:
            ExportError: it is a pickle or cannot be read, or holds anything else than vectors of one word.
        """
        state = {name: tensor.float() for name, tensor in read_safetensors(path).items()}
        if len(state) != 1 or any(tensor.ndim not in (1, 2) for tensor in state.values()):
            raise ExportError(f"{path.name}: is no textual inversion: it must hold the vectors of one word alone")
        return cls(path, token, state)

    @property
    def word(self) -> str:
        """What stands for it in a prompt."""
        return next(iter(self.state)) if self.token is None else self.token

    @property
    def words(self) -> tuple[str, ...]:
        """The tokens that it adds, one for each vector: the word, and others that diffusers names after it."""
        (vectors,) = self.state.values()
        more = range(1, len(vectors) if vectors.ndim > 1 else 1)
        return (self.word, *(f"{self.word}_{number}" for number in more))

    @property
    def edit(self) -> Edit:
        """What `component.json` says of it."""
        return Edit(kind="textual_inversion", file=self.path.name, sha256=sha256(self.path), token=self.word)


def _text_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    named: dict[str, Tensor] = convert_state_dict_to_peft(convert_state_dict_to_diffusers(state))
    return named


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file.

    Raises:
        ExportError: it is a pickle, or cannot be read.
    """
    if path.suffix in PICKLED:
        raise ExportError(pickle_text(path.name))
    try:
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
    except (OSError, SafetensorError) as error:
        raise ExportError(f"{path.name}: cannot be read as safetensors ({type(error).__name__})") from None
