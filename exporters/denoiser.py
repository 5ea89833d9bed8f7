"""The denoiser as a component: noisy latents, timesteps and conditioning to the prediction."""

import math
from collections.abc import Sequence

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from components.contract import (
    Conditioning,
    Contract,
    FlowSchedule,
    ImageChannels,
    Kind,
    LatentProjection,
    LatentSpace,
    NoiseSchedule,
    TensorSpec,
)
from exporters.checkpoint import Checkpoint
from exporters.control_inputs import adapter_specs, control_specs, unet_arguments
from exporters.errors import ExportError
from exporters.network import Network, trials
from exporters.text_encoder import CONDITIONING, token_limit
from exporters.traced_defaults import register_defaults

# What a U-Net of the families that we export does not have; each would need an input that no stage hands over.
_EXTRA_INPUTS = ("class_embed_type", "num_class_embeds", "encoder_hid_dim_type")


class _Denoiser(nn.Module):
    """A U-Net that takes what the contract names: `beside` the latents, timesteps and hidden states, and `added` last.

    What is added within may be left out, all of it.
    """

    def __init__(self, unet: UNet2DConditionModel, beside: Sequence[str], added: Sequence[TensorSpec]) -> None:
        super().__init__()
        self.unet = unet
        self.beside = tuple(beside)
        self.added = [spec.name for spec in added]
        register_defaults(self, added)

    def forward(self, latents: Tensor, timestep: Tensor, hidden_states: Tensor, *beside: Tensor) -> tuple[Tensor]:
        own, added = beside[: len(self.beside)], beside[len(self.beside) :]
        given = dict(zip(self.beside, own, strict=True))
        within = dict(zip(self.added, added or map(self.get_buffer, self.added), strict=True))
        if "image_channels" in given:
            latents = torch.cat([latents, given["image_channels"]], dim=1)
        embedded = None
        if "guidance" in given:
            embedded = _embedded_guidance(given["guidance"], self.unet.config.time_cond_proj_dim)
        (prediction,) = self.unet(
            latents,
            timestep,
            encoder_hidden_states=hidden_states,
            timestep_cond=embedded,
            return_dict=False,
            **unet_arguments(within),
        )
        return (prediction,)


def _embedded_guidance(guidance: Tensor, width: int) -> Tensor:
    """Sines and cosines [batch, width] of a guidance scale [batch], as Luo et al. 2023, "Latent Consistency Models"."""
    half = width // 2
    frequencies = torch.exp(torch.arange(half, dtype=torch.float32) * (-math.log(10000.0) / (half - 1)))
    angles = (guidance - 1)[:, None] * 1000 * frequencies
    return nn.functional.pad(torch.cat([angles.sin(), angles.cos()], dim=1), (0, width % 2))


def denoiser(
    checkpoint: Checkpoint, space: LatentSpace, preview: LatentProjection, guidance: float | None = None
) -> Network:
    """Read the checkpoint's U-Net; every row has a timestep of its own.

    `preview` is how the latents look, and `guidance` is what it draws best at.

    Raises:
        ExportError: the U-Net takes other latents than the VAE's, or conditioning that no stage hands over.
    """
    unet = checkpoint.unet()
    config = unet.config
    image_channels = _image_channels(unet, space)
    _require_known(unet)
    height, width = (config.sample_size,) * 2 if isinstance(config.sample_size, int) else config.sample_size
    multiple = 2 ** (len(config.block_out_channels) - 1)
    latents = ("batch", space.channels, "height", "width")
    tokens = token_limit(checkpoint.tokenizer())
    conditioning = Conditioning(name=CONDITIONING, width=config.cross_attention_dim, tokens=tokens)
    schedule = checkpoint.schedule()
    embeds_guidance = config.time_cond_proj_dim is not None
    beside = []
    if image_channels:
        channels = sum(part.channels for part in image_channels)
        shape = ("batch", channels, "height", "width")
        beside.append(TensorSpec(name="image_channels", dtype="float32", shape=shape))
    if embeds_guidance:
        beside.append(TensorSpec(name="guidance", dtype="float32", shape=("batch",)))
    added = [*control_specs(config), *adapter_specs(config)]
    contract = Contract(
        kind=Kind.DENOISER,
        inputs=(
            TensorSpec(name="latents", dtype="float32", shape=latents),
            TensorSpec(name="timestep", dtype="float32", shape=("batch",)),
            TensorSpec(name=CONDITIONING, dtype="float32", shape=("batch", "tokens", conditioning.width)),
            *beside,
            *added,
        ),
        outputs=(TensorSpec(name="prediction", dtype="float32", shape=latents),),
        latent_space=space,
        conditioning=(conditioning,),
        noise_schedule=schedule if isinstance(schedule, NoiseSchedule) else None,
        flow_schedule=schedule if isinstance(schedule, FlowSchedule) else None,
        latent_size=(height, width),
        latent_multiple=multiple,
        image_channels=image_channels,
        embeds_guidance=embeds_guidance,
        guidance=guidance,
        preview=preview,
    )
    small = {"height": 2 * multiple, "width": 2 * multiple, "tokens": max(2, tokens // 2 - 1)}
    whole = {"height": height, "width": width, "tokens": tokens}
    return Network(_Denoiser(unet, [spec.name for spec in beside], added), contract, trials(small, whole))


def _image_channels(unet: UNet2DConditionModel, space: LatentSpace) -> tuple[ImageChannels, ...]:
    """What a U-Net looks at beside the latents: how many more channels it takes tells the tasks apart."""
    config, latents = unet.config, space.channels
    known: dict[int, tuple[ImageChannels, ...]] = {
        latents: (),
        2 * latents + 1: (
            ImageChannels(source="mask", channels=1),
            ImageChannels(source="masked_image", channels=latents),
        ),
    }
    if config.out_channels != latents or config.in_channels not in known:
        taken = " or ".join(map(str, known))
        raise ExportError(
            f"unet: takes {config.in_channels} channels and gives {config.out_channels}; with the VAE's latents of "
            f"{latents} it must take {taken} and give {latents}"
        )
    return known[config.in_channels]


def _require_known(unet: UNet2DConditionModel) -> None:
    config = unet.config
    if not isinstance(config.cross_attention_dim, int):
        raise ExportError(f"unet: cross_attention_dim={config.cross_attention_dim}: must be one number")
    if config.sample_size is None:
        raise ExportError("unet: sample_size is not given: at which size was it trained?")
    for field in _EXTRA_INPUTS:
        if getattr(config, field, None) is not None:
            raise ExportError(f"unet: {field}={getattr(config, field)!r} is not supported")
    if getattr(config, "addition_embed_type", None) not in (None, "text"):
        raise ExportError(f"unet: addition_embed_type={config.addition_embed_type!r} is not supported")
