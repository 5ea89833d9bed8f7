"""What a ControlNet and an adapter add within a U-Net: the denoiser's optional inputs for it."""

from collections.abc import Mapping
from typing import Any

from diffusers import UNet2DConditionModel
from torch import Tensor

from components.contract import CONTROL_PREFIXES, Kind, TensorSpec

_CONTROL, _ADAPTER = CONTROL_PREFIXES[Kind.CONTROLNET], CONTROL_PREFIXES[Kind.ADAPTER]
_MID = f"{_CONTROL}mid"
ADAPTER_MID = f"{_ADAPTER}mid"


def control_specs(config: Any, optional: bool = True) -> list[TensorSpec]:
    """The residuals that a ControlNet in the shape of a U-Net's `config` gives and that the U-Net adds.

    One for every skip connection and one for the middle: Zhang et al. 2023, "Adding Conditional Control to
    Text-to-Image Diffusion Models".
    """
    widths = config.block_out_channels
    layers = config.layers_per_block
    places = [(widths[0], 1)]
    for block, width in enumerate(widths):
        places += [(width, 2**block)] * (layers if isinstance(layers, int) else layers[block])
        if block < len(widths) - 1:
            places.append((width, 2 ** (block + 1)))
    middle = feature_spec(_MID, widths[-1], 2 ** (len(widths) - 1), optional)
    return [
        *(feature_spec(f"{_CONTROL}{number}", *place, optional) for number, place in enumerate(places)),
        middle,
    ]


def adapter_specs(config: Any) -> list[TensorSpec]:
    """The features of an adapter that a U-Net adds, one in each block on its way down, and SDXL's one in its middle.

    Mou et al. 2023, "T2I-Adapter". A block with attention adds them before it halves the size, one without, after, as
    diffusers does.
    """
    widths = config.block_out_channels
    last = len(widths) - 1
    blocks = [
        feature_spec(
            f"{_ADAPTER}{block}",
            width,
            2**block if "CrossAttn" in config.down_block_types[block] or block == last else 2 ** (block + 1),
            optional=True,
        )
        for block, width in enumerate(widths)
    ]
    # the adapters of this family have one more than the U-Net has blocks
    middle = [feature_spec(ADAPTER_MID, widths[-1], 2**last, optional=True)]
    return [*blocks, *(middle if config.addition_embed_type == "text_time" else [])]


def add_in_the_middle(unet: UNet2DConditionModel, given: Mapping[str, Tensor]) -> None:
    """Let a U-Net's middle add what `given` holds for it by the time it runs: an adapter's feature.

    diffusers adds one there if it is of the size of the middle, which a default of one zero is not.
    """
    unet.mid_block.register_forward_hook(lambda _, __, output: output + given[ADAPTER_MID])


def feature_spec(name: str, channels: int, downscale: int, optional: bool) -> TensorSpec:
    """Feature maps of which one pixel covers `downscale` by `downscale` latent pixels."""
    height, width = (side if downscale == 1 else f"{side}/{downscale}" for side in ("height", "width"))
    return TensorSpec(name=name, dtype="float32", shape=("batch", channels, height, width), optional=optional)


def unet_arguments(added: Mapping[str, Tensor]) -> dict[str, tuple[Tensor, ...] | list[Tensor] | Tensor]:
    """What diffusers' U-Nets call the arrays of `control_specs` and `adapter_specs`, but for the adapter's middle.

    `added` holds all of them, or none.
    """
    if not added:
        return {}
    return {
        "down_block_additional_residuals": tuple(_numbered(_CONTROL, added)),
        "mid_block_additional_residual": added[_MID],
        # its forward takes them from the list as it goes
        "down_intrablock_additional_residuals": _numbered(_ADAPTER, added),
    }


def _numbered(prefix: str, added: Mapping[str, Tensor]) -> list[Tensor]:
    count = sum(name.startswith(prefix) and name not in (_MID, ADAPTER_MID) for name in added)
    return [added[f"{prefix}{number}"] for number in range(count)]
