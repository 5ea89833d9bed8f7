"""One network of a single file: its makers' names for the weights become those of diffusers and transformers."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffusers import ModelMixin
from diffusers.loaders.single_file_utils import create_diffusers_clip_model_from_ldm
from torch import Tensor, nn


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
    else:
        module = create_diffusers_clip_model_from_ldm(network, dict(tensors), config=str(config), local_files_only=True)
    if missing := [name for name, weight in module.named_parameters() if weight.is_meta]:
        raise ValueError(f"{missing[0]} is missing" + (f", and {len(missing) - 1} more" if missing[1:] else ""))
    return module.float()


def _require_all_used(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Conversion neither adds nor drops a number; of what has no place diffusers warns, and goes on."""
    given, taken = (sum(map(Tensor.numel, weights.values())) for weights in (tensors, module.state_dict()))
    if given != taken:
        raise ValueError(f"the file has {given} numbers, the network {taken}")
