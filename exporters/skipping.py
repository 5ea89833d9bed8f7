"""Layers of a transformer that a row may skip: the denoiser's optional input for skip-layer guidance."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from diffusers import SD3Transformer2DModel
from torch import Tensor

from components.contract import SKIP_LAYERS, TensorSpec

# what a block is given, in the order in which it gives both on
_STREAMS = ("encoder_hidden_states", "hidden_states")


def skip_spec(layers: int) -> TensorSpec:
    """1 for every layer that a row skips, 0 for the others."""
    return TensorSpec(name=SKIP_LAYERS, dtype="float32", shape=("batch", layers), optional=True)


def add_skipping(network: SD3Transformer2DModel) -> Callable[[Tensor], None]:
    """Let every block hand on what it was given in rows that skip it.

    Gives what the skipped layers [batch, layers] are to be handed to before the network runs. All rows compute every
    block, as they share a run.
    """
    given: list[Tensor] = []

    def enter(skipped: Tensor) -> None:
        given[:] = [skipped]

    for number, block in enumerate(network.transformer_blocks):
        block.register_forward_hook(_skipping(number, given), with_kwargs=True)
    return enter


def _skipping(
    number: int, given: list[Tensor]
) -> Callable[[Any, tuple[Any, ...], Mapping[str, Tensor], tuple[Tensor | None, Tensor]], tuple[Tensor | None, ...]]:
    def skipped(
        _: Any, __: tuple[Any, ...], inputs: Mapping[str, Tensor], outputs: tuple[Tensor | None, Tensor]
    ) -> tuple[Tensor | None, ...]:
        skips = given[0][:, number, None, None] > 0.5
        # the last block gives the text on to none
        return tuple(
            None if output is None else torch.where(skips, inputs[name], output)
            for name, output in zip(_STREAMS, outputs, strict=True)
        )

    return skipped
