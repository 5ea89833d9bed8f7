"""What an exporter knows of one network: the torch module as the contract sees it, and arrays to try it on."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from components.contract import Contract, TensorSpec


@dataclass(frozen=True)
class Network:
    """A torch module whose positional inputs and tuple of outputs are the contract's, in its order.

    `sizes` gives each open dimension, by its name in the contract, for the export, for the comparison with torch and
    for four golden cases. `bound` is the number of possible values of an integer input.
    """

    module: nn.Module
    contract: Contract
    sizes: tuple[Mapping[str, int], ...]
    bound: int = 1

    def arrays(self, sizes: Mapping[str, int], seed: int) -> dict[str, Tensor]:
        """Random inputs of these sizes: standard normal, timesteps in 0..999, token numbers below `bound`."""
        generator = torch.Generator().manual_seed(seed)
        return {spec.name: self._array(spec, sizes, generator) for spec in self.contract.inputs}

    @torch.no_grad()
    def outputs(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What torch computes."""
        computed = self.module(*inputs.values())
        return dict(zip((spec.name for spec in self.contract.outputs), computed, strict=True))

    def _array(self, spec: TensorSpec, sizes: Mapping[str, int], generator: torch.Generator) -> Tensor:
        shape = [dim if isinstance(dim, int) else sizes[dim] for dim in spec.shape]
        if spec.dtype == "int64":
            return torch.randint(self.bound, shape, generator=generator)
        if spec.name == "timestep":
            return torch.randint(_timesteps(self.contract), shape, generator=generator).float()
        return torch.randn(shape, generator=generator)


def _timesteps(contract: Contract) -> int:
    return 1 if contract.noise_schedule is None else contract.noise_schedule.num_train_timesteps


def trials(small: Mapping[str, int], whole: Mapping[str, int]) -> tuple[Mapping[str, int], ...]:
    """Sizes for the export, the comparison and the golden cases, from a small picture's and the network's own.

    The comparison is at a batch and at sizes that the export has not seen.
    """
    other = {name: size * 3 if name in ("height", "width") else size for name, size in small.items()}
    wide = {**other, **({"width": small["width"] * 2} if "width" in small else {})}
    return (
        {**small, "batch": 2},
        {**wide, **_shorter(wide), "batch": 3},
        {**whole, "batch": 1},
        {**small, "batch": 2},
        {**wide, "batch": 1},
        {**other, "batch": 4},
    )


def _shorter(sizes: Mapping[str, int]) -> dict[str, int]:
    return {"tokens": max(2, sizes["tokens"] // 2)} if "tokens" in sizes else {}
