"""The U-Net of the denoisers that are trained from the beginning."""

from diffusers import UNet2DConditionModel

from training.settings import UNetSettings


def new_unet(
    settings: UNetSettings,
    *,
    sample_size: int,
    in_channels: int,
    out_channels: int,
    conditioning_width: int,
    num_class_embeds: int | None = None,
) -> UNet2DConditionModel:
    """A U-Net with random weights, cross-attention where the settings name it, and a summary of the conditioning."""
    down = tuple("CrossAttnDownBlock2D" if attended else "DownBlock2D" for attended in settings.attended)
    up = tuple("CrossAttnUpBlock2D" if attended else "UpBlock2D" for attended in reversed(settings.attended))
    return UNet2DConditionModel(
        sample_size=sample_size,
        in_channels=in_channels,
        out_channels=out_channels,
        down_block_types=down,
        up_block_types=up,
        block_out_channels=settings.channels,
        layers_per_block=settings.layers,
        cross_attention_dim=conditioning_width,
        attention_head_dim=tuple(channels // settings.head_width for channels in settings.channels),
        norm_num_groups=settings.norm_groups,
        resnet_time_scale_shift="scale_shift",
        addition_embed_type="text",
        addition_embed_type_num_heads=settings.summary_heads,
        num_class_embeds=num_class_embeds,
    )
