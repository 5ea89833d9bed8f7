"""A U-Net that looks at boxes with phrases, or does not, row by row: GLIGEN's gated attention, Li et al. 2023."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention import GatedSelfAttentionDense
from torch import Tensor, nn

from components.contract import BOX_INPUTS, TensorSpec
from exporters.errors import ExportError

# of every picture in StableDiffusionGLIGENPipeline, which fills up with boxes that are not there
MOST_BOXES = 30

_BOXES, _TEXTS, _MASKS, _ON = BOX_INPUTS


def box_specs(unet: UNet2DConditionModel) -> list[TensorSpec]:
    """The inputs of boxes, their phrases and which of them are there, and whether a row looks at them.

    Raises:
        ExportError: the U-Net has no gated attention, or is one whose boxes have pictures, or that inpaints.
    """
    config = unet.config
    if config.attention_type != "gated":
        raise ExportError(
            f"unet: attention_type={config.attention_type!r}: must be 'gated' in StableDiffusionGLIGENPipeline, for "
            "boxes with phrases"
        )
    if config.in_channels != config.out_channels:
        raise ExportError(
            f"unet: takes {config.in_channels} channels: a GLIGEN U-Net that inpaints is not supported, only one that "
            "draws from noise alone"
        )
    shapes = ((MOST_BOXES, 4), (MOST_BOXES, config.cross_attention_dim), (MOST_BOXES,), ())
    return [
        TensorSpec(name=name, dtype="float32", shape=("batch", *shape), optional=True)
        for name, shape in zip(BOX_INPUTS, shapes, strict=True)
    ]


def add_boxes(unet: UNet2DConditionModel, given: Mapping[str, Tensor]) -> None:
    """Let every gated attention have its say in those rows alone that `given` turns on by the time it runs."""
    for layer in unet.modules():
        if isinstance(layer, GatedSelfAttentionDense):
            layer.register_forward_hook(_where_on(given))


def box_arguments(given: Mapping[str, Tensor], timestep: Tensor) -> dict[str, dict[str, Tensor]]:
    """What diffusers' U-Nets call the inputs of `box_specs`."""
    # of as many rows as the rest, also where they are left out
    rows = timestep[:, None, None] * 0
    boxes, texts = given[_BOXES] + rows, given[_TEXTS] + rows
    return {"gligen": {"boxes": boxes, "positive_embeddings": texts, "masks": given[_MASKS]}}


def _where_on(given: Mapping[str, Tensor]) -> Callable[[nn.Module, Any, Tensor], Tensor]:
    def where_on(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return torch.where(given[_ON][:, None, None] > 0, output, inputs[0])

    return where_on
