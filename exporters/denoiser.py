"""The denoiser as a component: noisy latents, timesteps and conditioning to the prediction."""

from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from components.contract import (
    Conditioning,
    Contract,
    FlowSchedule,
    Kind,
    LatentProjection,
    LatentSpace,
    NoiseSchedule,
    TensorSpec,
)
from exporters.checkpoint import Checkpoint
from exporters.errors import ExportError
from exporters.network import Network, trials
from exporters.text_encoder import CONDITIONING, token_limit

# What a U-Net of text to image does not have; each would need an input that no stage hands over.
_EXTRA_INPUTS = ("class_embed_type", "num_class_embeds", "encoder_hid_dim_type", "time_cond_proj_dim")


class _Denoiser(nn.Module):
    def __init__(self, unet: UNet2DConditionModel) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, latents: Tensor, timestep: Tensor, hidden_states: Tensor) -> tuple[Tensor]:
        (prediction,) = self.unet(latents, timestep, encoder_hidden_states=hidden_states, return_dict=False)
        return (prediction,)


def denoiser(
    checkpoint: Checkpoint, space: LatentSpace, preview: LatentProjection, guidance: float | None = None
) -> Network:
    """Read the checkpoint's U-Net; every row has a timestep of its own.

    `preview` is how the latents look, and `guidance` is what it draws best at.

    Raises:
        ExportError: the U-Net takes other latents than the VAE's, or other conditioning than text.
    """
    unet = checkpoint.unet()
    config = unet.config
    _require_text_to_image(unet, space)
    height, width = (config.sample_size,) * 2 if isinstance(config.sample_size, int) else config.sample_size
    multiple = 2 ** (len(config.block_out_channels) - 1)
    latents = ("batch", space.channels, "height", "width")
    conditioning = Conditioning(
        name=CONDITIONING, width=config.cross_attention_dim, tokens=token_limit(checkpoint.tokenizer())
    )
    schedule = checkpoint.schedule()
    contract = Contract(
        kind=Kind.DENOISER,
        inputs=(
            TensorSpec(name="latents", dtype="float32", shape=latents),
            TensorSpec(name="timestep", dtype="float32", shape=("batch",)),
            TensorSpec(name=CONDITIONING, dtype="float32", shape=("batch", "tokens", conditioning.width)),
        ),
        outputs=(TensorSpec(name="prediction", dtype="float32", shape=latents),),
        latent_space=space,
        conditioning=(conditioning,),
        noise_schedule=schedule if isinstance(schedule, NoiseSchedule) else None,
        flow_schedule=schedule if isinstance(schedule, FlowSchedule) else None,
        latent_size=(height, width),
        latent_multiple=multiple,
        guidance=guidance,
        preview=preview,
    )
    small = {"height": 2 * multiple, "width": 2 * multiple, "tokens": max(2, conditioning.tokens // 2 - 1)}
    whole = {"height": height, "width": width, "tokens": conditioning.tokens}
    return Network(_Denoiser(unet), contract, trials(small, whole))


def _require_text_to_image(unet: UNet2DConditionModel, space: LatentSpace) -> None:
    config = unet.config
    if (config.in_channels, config.out_channels) != (space.channels, space.channels):
        raise ExportError(
            f"unet: takes {config.in_channels} channels and gives {config.out_channels}; the VAE's latents have "
            f"{space.channels}"
        )
    if not isinstance(config.cross_attention_dim, int):
        raise ExportError(f"unet: cross_attention_dim={config.cross_attention_dim}: must be one number")
    if config.sample_size is None:
        raise ExportError("unet: sample_size is not given: at which size was it trained?")
    for field in _EXTRA_INPUTS:
        if getattr(config, field, None) is not None:
            raise ExportError(f"unet: {field}={getattr(config, field)!r} is not supported")
    if getattr(config, "addition_embed_type", None) not in (None, "text"):
        raise ExportError(f"unet: addition_embed_type={config.addition_embed_type!r} is not supported")
