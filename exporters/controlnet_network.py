"""diffusers' ControlNetModel as a component: a control picture to what is added within a denoiser."""

from collections.abc import Sequence
from typing import Any

from diffusers import ControlNetModel
from torch import Tensor, nn

from components.compatibility import compatible
from components.contract import Contract, Kind, TensorSpec
from exporters.control_inputs import control_specs
from exporters.errors import ExportError
from exporters.network import Network, trials
from exporters.unet_conditioning import TIME_IDS, added_conditions, hidden_width, side_by_side, time_ids

# by the names of the configuration: what is known, and so exported as diffusers computes it
_KNOWN: dict[str, tuple[Any, ...]] = {
    "addition_embed_type": (None, "text", "text_time"),
    "class_embed_type": (None,),
    "num_class_embeds": (None,),
    "encoder_hid_dim_type": (None,),
    "conditioning_channels": (3,),
    "global_pool_conditions": (False,),
}


class _ControlNet(nn.Module):
    """Scaled row by row, so that rows of several scales share a run; `beside` conditions it next to hidden states."""

    def __init__(self, network: ControlNetModel, beside: Sequence[TensorSpec]) -> None:
        super().__init__()
        self.network = network
        self.beside = [spec.name for spec in beside]

    def forward(self, latents: Tensor, timestep: Tensor, hidden_states: Tensor, *beside: Tensor) -> tuple[Tensor, ...]:
        *own, control_image, scale = beside
        given = dict(zip(self.beside, own, strict=True))
        down, middle = self.network(
            latents,
            timestep,
            encoder_hidden_states=side_by_side(hidden_states, given),
            controlnet_cond=control_image,
            conditioning_scale=scale[:, None, None, None],
            added_cond_kwargs=added_conditions(given),
            return_dict=False,
        )
        return (*down, middle)


def controlnet(network: ControlNetModel, denoiser: Contract) -> Network:
    """Take a ControlNet for the denoiser of that contract: of its latents, conditioning and residuals.

    Raises:
        ExportError: it is for another denoiser, or takes what no stage hands over.
    """
    if denoiser.kind != Kind.DENOISER or denoiser.latent_space is None or denoiser.latent_size is None:
        raise ExportError(f"a ControlNet is exported for a denoiser, and this is a {denoiser.kind}")
    config, space = network.config, denoiser.latent_space
    for field, known in _KNOWN.items():
        if (found := getattr(config, field, None)) not in known:
            raise ExportError(f"{field}={found!r}: must be {' or '.join(map(repr, known))}")
    told = time_ids(config, denoiser.conditioning, "controlnet")
    if told != denoiser.time_ids:
        own, theirs = (", ".join(names) or "nothing" for names in (told, denoiser.time_ids))
        raise ExportError(f"addition_embed_type={config.addition_embed_type!r}: is told {own}, the denoiser {theirs}")
    downscale = 2 ** (len(config.conditioning_embedding_out_channels) - 1)
    for field, found, wanted in (
        ("in_channels", config.in_channels, space.channels),
        ("conditioning_embedding_out_channels: makes pictures smaller by", downscale, space.downscale),
        ("cross_attention_dim", config.cross_attention_dim, hidden_width(denoiser.conditioning)),
    ):
        if found != wanted:
            raise ExportError(f"{field}={found}: must be {wanted}, as of the denoiser")
    named = {spec.name: spec for spec in denoiser.inputs}
    hidden_states, *more = (named[array.name] for array in denoiser.conditioning)
    beside = [*more, *([named[TIME_IDS]] if told else [])]
    sides = tuple(f"{side}*{space.downscale}" for side in ("height", "width"))
    contract = Contract(
        kind=Kind.CONTROLNET,
        inputs=(
            named["latents"],
            named["timestep"],
            hidden_states,
            *beside,
            TensorSpec(name="control_image", dtype="float32", shape=("batch", 3, *sides)),
            TensorSpec(name="scale", dtype="float32", shape=("batch",)),
        ),
        outputs=tuple(control_specs(config, optional=False)),
        latent_space=space,
        conditioning=denoiser.conditioning,
        time_ids=told,
        latent_size=denoiser.latent_size,
    )
    require_fit(contract, denoiser)
    multiple = denoiser.latent_multiple
    (tokens,) = denoiser.token_limits
    small = {"height": 2 * multiple, "width": 2 * multiple, "tokens": max(2, tokens // 2 - 1)}
    height, width = denoiser.latent_size
    whole = {"height": height, "width": width, "tokens": tokens}
    return Network(_ControlNet(network, beside), contract, trials(small, whole))


def require_fit(contract: Contract, denoiser: Contract) -> None:
    """Refuse a network that adds what the denoiser does not take.

    Raises:
        ExportError: naming every mismatch.
    """
    if found := compatible(contract, denoiser):
        raise ExportError(f"it does not fit the denoiser: {'; '.join(found)}")
