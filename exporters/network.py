"""What an exporter knows of one network: the torch module as the contract sees it, and arrays to try it on."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from components.contract import SKIP_LAYERS, Conditioning, Contract, TensorSpec
from components.dimensions import size_of

Sizes = Mapping[str, int]

# of pictures, in pixels
_LONGEST_SIDE = 1024


@dataclass(frozen=True)
class Trials:
    """The open dimensions, by their names in the contract, at which a network is traced, compared and kept golden."""

    traced: Sizes
    compared: Sizes
    golden: tuple[Sizes, ...]


@dataclass(frozen=True)
class Network:
    """A torch module whose positional inputs and tuple of outputs are the contract's, in its order.

    `bound` is the number of possible values of an integer input. Optional inputs of which the module has a buffer by
    their name are traced as that: see `exporters.traced_defaults`.
    """

    module: nn.Module
    contract: Contract
    trials: Trials
    bound: int = 1

    def arrays(self, sizes: Sizes, seed: int) -> dict[str, Tensor]:
        """Random inputs of these sizes: standard normal, timesteps in 0..999, pixels, token numbers below `bound`.

        What may be left out comes on top of the rest, and is a tenth of that; every other layer is skipped.
        """
        generator = torch.Generator().manual_seed(seed)
        return {spec.name: self._array(spec, sizes, generator) for spec in self.contract.inputs}

    @property
    def traced_defaults(self) -> tuple[TensorSpec, ...]:
        """The optional inputs that the module has a default for, and that it is traced without."""
        buffers = dict(self.module.named_buffers())
        return tuple(spec for spec in self.contract.inputs if spec.optional and spec.name in buffers)

    @torch.no_grad()
    def outputs(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What torch computes."""
        computed = self.module(*inputs.values())
        return dict(zip((spec.name for spec in self.contract.outputs), computed, strict=True))

    def _array(self, spec: TensorSpec, sizes: Sizes, generator: torch.Generator) -> Tensor:
        shape = [_size(spec, dim, sizes) for dim in spec.shape]
        if spec.dtype == "int64":
            return torch.randint(self.bound, shape, generator=generator)
        if spec.name == "time_ids":
            return torch.randint(_LONGEST_SIDE, shape, generator=generator).float()
        if spec.name == "timestep":
            return torch.randint(_timesteps(self.contract), shape, generator=generator).float()
        if spec.name == SKIP_LAYERS:
            return torch.randint(2, shape, generator=generator).float()
        drawn = torch.randn(shape, generator=generator)
        return drawn * 0.1 if spec.optional else drawn


def _size(spec: TensorSpec, dimension: int | str, sizes: Sizes) -> int:
    size = size_of(dimension, sizes)
    assert size is not None, f"{spec.name}: the trials have no size for {dimension}"
    return size


def _timesteps(contract: Contract) -> int:
    return 1000 if contract.num_train_timesteps is None else contract.num_train_timesteps


def text_spec(array: Conditioning) -> TensorSpec:
    """A denoiser's input of one array of conditioning."""
    tokens = () if array.tokens is None else ("tokens",)
    return TensorSpec(name=array.name, dtype="float32", shape=("batch", *tokens, array.width))


def trials(small: Sizes, whole: Sizes) -> Trials:
    """Lay out the trials from the sizes of a small input and of the network's own.

    The comparison is at a batch and at sizes that the trace has not seen; the golden cases are small but for one.
    """
    # dimensions of inputs that may be left out
    more = {name: size + 1 for name, size in small.items() if name not in ("height", "width", "tokens")}
    tall = {name: size * 3 if name in ("height", "width") else size for name, size in small.items()}
    uneven = {**tall, **({"width": small["width"] * 2} if "width" in small else {})}
    short = {"tokens": max(2, small["tokens"] // 2)} if "tokens" in small else {}
    return Trials(
        traced={**small, "batch": 2},
        compared={**uneven, **short, **more, "batch": 3},
        golden=({**whole, "batch": 1}, {**small, "batch": 2}, {**uneven, "batch": 1}, {**tall, "batch": 4}),
    )
