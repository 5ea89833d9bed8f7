"""One network of a single file: its makers' names for the weights become those of diffusers and transformers."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import ModelMixin
from diffusers.loaders.single_file_utils import create_diffusers_clip_model_from_ldm
from torch import Tensor, nn
from transformers import T5Config, T5EncoderModel

# one table under two names
_SHARED, _SHARED_AGAIN = "shared.weight", "encoder.embed_tokens.weight"


def load_original(network: Any, config: Path, changes: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> nn.Module:
    """Make a network of the configuration in the folder `config`, with its weights in float32.

    `tensors` are all of this network in the file, and no other. Nothing is fetched.

    Raises:
        ValueError: a weight is missing, has another shape, or is none of the network's.
    """
    if issubclass(network, ModelMixin):
        try:
            module: nn.Module = network.from_single_file(
                dict(tensors), config=str(config), local_files_only=True, **changes
            )
        except NotImplementedError:
            # a weight that was not filled in cannot be moved
            raise ValueError("a weight of the network is missing") from None
        _require_all_used(module, tensors)
    elif network is T5EncoderModel:
        module = _t5(config, tensors)
    else:
        module = create_diffusers_clip_model_from_ldm(network, dict(tensors), config=str(config), local_files_only=True)
    if missing := [name for name, weight in module.named_parameters() if weight.is_meta]:
        raise ValueError(f"{missing[0]} is missing" + (f", and {len(missing) - 1} more" if missing[1:] else ""))
    return module.float()


def _t5(config: Path, tensors: Mapping[str, Tensor]) -> nn.Module:
    """T5, whose names are those of transformers below a prefix; diffusers' loader leaves one of two names empty."""
    prefix = next((name.removesuffix(_SHARED) for name in tensors if name.endswith(_SHARED)), None)
    if prefix is None:
        raise ValueError(f"{_SHARED} is missing")
    with torch.device("meta"):
        module: nn.Module = T5EncoderModel(T5Config.from_pretrained(config))
    own = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    module.load_state_dict({**own, _SHARED_AGAIN: own[_SHARED]}, assign=True)
    module.tie_weights()  # type: ignore[operator] # a method of transformers
    return module


def _require_all_used(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Conversion neither adds nor drops a number; of what has no place diffusers warns, and goes on."""
    given, taken = (sum(map(Tensor.numel, weights.values())) for weights in (tensors, module.state_dict()))
    if given != taken:
        raise ValueError(f"the file has {given} numbers, the network {taken}")
