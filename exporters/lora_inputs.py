"""A denoiser that takes the LoRAs of each row as inputs: y + B(Ax) for every projection of its attentions."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from components.contract import TensorSpec
from components.lora import down_name, lora_specs, up_name

PROJECTIONS = ("to_q", "to_k", "to_v", "to_out.0")


def lora_input_specs(network: nn.Module) -> tuple[TensorSpec, ...]:
    """The inputs of every projection of the network's attentions."""
    return tuple(
        spec
        for name, layer in _projections(network).items()
        for spec in lora_specs(name, layer.in_features, layer.out_features, batch="batch", rank="rank")
    )


def add_loras(network: nn.Module, given: Mapping[str, Tensor]) -> None:
    """Let every projection add what `given` holds for it by the time it runs, by the names of the inputs."""
    for name, layer in _projections(network).items():
        layer.register_forward_hook(_adding(name, given))


def _adding(name: str, given: Mapping[str, Tensor]) -> Callable[[nn.Module, Any, Tensor], Tensor]:
    def added(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        down, up = given[down_name(name)], given[up_name(name)]
        # less its negative, which is the same number: onnxscript takes whatever is added to a query for its bias
        return output - (inputs[0] @ down.transpose(1, 2)) @ -up.transpose(1, 2)

    return added


def _projections(network: nn.Module) -> dict[str, nn.Linear]:
    # no LoRA is made for attentions that look at boxes, which do not run in every row either
    return {
        name: layer
        for name, layer in network.named_modules()
        if isinstance(layer, nn.Linear)
        and name.endswith(tuple(f".{each}" for each in PROJECTIONS))
        and ".fuser." not in name
    }
