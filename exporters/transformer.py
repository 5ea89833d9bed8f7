"""The denoiser of SD 3 and 3.5 as a component: a transformer over patches of latents and tokens of text."""

from collections.abc import Callable

import torch
from diffusers import SD3Transformer2DModel
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
from exporters.network import Network, text_spec, trials
from exporters.skipping import add_skipping, skip_spec
from exporters.third_text_encoder import TOKENS, third_spec


class _Transformer(nn.Module):
    """Lays what CLIP's encoders say side by side, with zeros beside it to the full width, and after it what T5 says."""

    def __init__(self, transformer: SD3Transformer2DModel) -> None:
        super().__init__()
        self.transformer = transformer
        # not an attribute, which torch's tracer watches
        self._enter: Callable[[Tensor], None] = add_skipping(transformer)

    def forward(
        self,
        latents: Tensor,
        timestep: Tensor,
        hidden_states: Tensor,
        second_hidden_states: Tensor,
        text_embeds: Tensor,
        second_text_embeds: Tensor,
        third_hidden_states: Tensor,
        skip_layers: Tensor,
    ) -> tuple[Tensor]:
        self._enter(skip_layers)
        width = self.transformer.config.joint_attention_dim
        texts = torch.cat([hidden_states, second_hidden_states], dim=-1)
        texts = nn.functional.pad(texts, (0, width - texts.shape[-1]))
        # of as many rows as the rest, also where it is left out
        third = third_hidden_states + timestep[:, None, None] * 0
        (prediction,) = self.transformer(
            latents,
            encoder_hidden_states=torch.cat([texts, third], dim=1),
            pooled_projections=torch.cat([text_embeds, second_text_embeds], dim=-1),
            timestep=timestep,
            return_dict=False,
        )
        return (prediction,)


def transformer(
    checkpoint: Checkpoint,
    space: LatentSpace,
    conditioning: tuple[Conditioning, ...],
    preview: LatentProjection,
    guidance: float | None = None,
    third_tokens: int = TOKENS,
) -> Network:
    """Read the checkpoint's transformer; every row has a timestep of its own. The arguments are those of `denoiser`.

    T5's `third_tokens` hidden states may be left out, for zeros in their place, and so may the layers to skip.

    Raises:
        ExportError: it takes other latents than the VAE's, or conditioning of another width.
    """
    network = checkpoint.transformer()
    config = network.config
    _require_fits(network, space, conditioning)
    multiple = config.patch_size
    latents = ("batch", space.channels, "height", "width")
    tokens = next(array.tokens for array in conditioning if array.tokens is not None)
    schedule = checkpoint.schedule()
    contract = Contract(
        kind=Kind.DENOISER,
        inputs=(
            TensorSpec(name="latents", dtype="float32", shape=latents),
            TensorSpec(name="timestep", dtype="float32", shape=("batch",)),
            *map(text_spec, conditioning),
            third_spec(third_tokens, config.joint_attention_dim, optional=True),
            skip_spec(config.num_layers),
        ),
        outputs=(TensorSpec(name="prediction", dtype="float32", shape=latents),),
        latent_space=space,
        conditioning=conditioning,
        noise_schedule=schedule if isinstance(schedule, NoiseSchedule) else None,
        flow_schedule=schedule if isinstance(schedule, FlowSchedule) else None,
        latent_size=(config.sample_size, config.sample_size),
        latent_multiple=multiple,
        latent_limit=config.pos_embed_max_size * multiple,
        guidance=guidance,
        preview=preview,
    )
    small = {"height": 2 * multiple, "width": 2 * multiple, "tokens": max(2, tokens // 2 - 1)}
    whole = {"height": config.sample_size, "width": config.sample_size, "tokens": tokens}
    return Network(_Transformer(network), contract, trials(small, whole))


def _require_fits(network: SD3Transformer2DModel, space: LatentSpace, conditioning: tuple[Conditioning, ...]) -> None:
    config = network.config
    if (config.in_channels, config.out_channels) != (space.channels, space.channels):
        raise ExportError(
            f"transformer: takes {config.in_channels} channels and gives {config.out_channels}; the VAE's latents have "
            f"{space.channels}"
        )
    if not config.pos_embed_max_size:
        raise ExportError(f"transformer: pos_embed_max_size={config.pos_embed_max_size}: must be at least 1")
    hidden = sum(array.width for array in conditioning if array.tokens is not None)
    if hidden > config.joint_attention_dim:
        raise ExportError(
            f"transformer: joint_attention_dim={config.joint_attention_dim}: the text encoders' hidden states are "
            f"{hidden} wide"
        )
    whole = sum(array.width for array in conditioning if array.tokens is None)
    if whole != config.pooled_projection_dim:
        raise ExportError(
            f"transformer: pooled_projection_dim={config.pooled_projection_dim}: the text encoders' projections are "
            f"{whole} wide"
        )
