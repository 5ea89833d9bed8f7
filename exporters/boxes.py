"""A U-Net that looks at boxes with phrases, or does not, row by row: GLIGEN's gated attention, Li et al. 2023."""

from collections.abc import Mapping

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
    for block in list(unet.modules()):
        if isinstance(fuser := getattr(block, "fuser", None), GatedSelfAttentionDense):
            block.fuser = _Gate(fuser, given)


def box_arguments(given: Mapping[str, Tensor], timestep: Tensor) -> dict[str, dict[str, Tensor]]:
    """What diffusers' U-Nets call the inputs of `box_specs`."""
    # of as many rows as the rest, also where they are left out
    rows = timestep[:, None, None] * 0
    boxes, texts = given[_BOXES] + rows, given[_TEXTS] + rows
    return {"gligen": {"boxes": boxes, "positive_embeddings": texts, "masks": given[_MASKS]}}


class _Gate(nn.Module):
    """A gated attention that changes rows which are on, and is not run where none is."""

    def __init__(self, fuser: GatedSelfAttentionDense, given: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.fuser = fuser
        # not an attribute, which torch's tracer watches
        self._taken = lambda name: given[name]

    def forward(self, hidden_states: Tensor, objects: Tensor) -> Tensor:
        on = self._taken(_ON)[:, None, None] > 0  # type: ignore[no-untyped-call] # a lambda

        def fused(hidden_states: Tensor, objects: Tensor, on: Tensor) -> Tensor:
            return torch.where(on, self.fuser(hidden_states, objects), hidden_states)

        def same(hidden_states: Tensor, *_: Tensor) -> Tensor:
            # a branch may not give back what it was given
            return hidden_states.clone()

        out: Tensor = torch.cond(on.any(), fused, same, (hidden_states, objects, on))
        return out
