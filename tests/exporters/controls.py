"""ControlNets and adapters of random weights in the shape of the tiny pipelines, as diffusers saves them."""

import torch
from diffusers import ControlNetModel, T2IAdapter, UNet2DConditionModel

# so that a control picture changes what is drawn
_SPREAD = 0.6


def tiny_controlnet(unet: UNet2DConditionModel, seed: int) -> ControlNetModel:
    """A ControlNet for a U-Net of two levels; none of its weights is zero, as an untrained one's are."""
    torch.manual_seed(seed)
    network = ControlNetModel.from_unet(
        unet, conditioning_embedding_out_channels=(8, 8), load_weights_from_unet=False
    ).eval()
    for parameter in network.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=_SPREAD)
    return network


def tiny_adapter(unet: UNet2DConditionModel, seed: int, channels: int = 3) -> T2IAdapter:
    """An adapter for a U-Net of two levels whose pictures have that many channels."""
    torch.manual_seed(seed)
    widths = list(unet.config.block_out_channels)
    return T2IAdapter(channels, widths, num_res_blocks=1, downscale_factor=2, adapter_type="full_adapter").eval()


def tiny_xl_adapter(unet: UNet2DConditionModel, seed: int) -> T2IAdapter:
    """An adapter for a U-Net of three levels of SDXL's kind, with a feature for its middle."""
    torch.manual_seed(seed)
    widths = list(unet.config.block_out_channels)
    adapter = T2IAdapter(3, [*widths, widths[-1]], num_res_blocks=1, downscale_factor=4, adapter_type="full_adapter_xl")
    return adapter.eval()
