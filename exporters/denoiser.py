"""The denoiser as a component: noisy latents, timesteps and conditioning to the prediction."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from components.contract import (
    BOX_INPUTS,
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
from exporters.boxes import add_boxes, box_arguments, box_specs
from exporters.checkpoint import Checkpoint, Enlarging
from exporters.control_inputs import ADAPTER_MID, adapter_specs, add_in_the_middle, control_specs, unet_arguments
from exporters.errors import ExportError
from exporters.image_prompt import PROMPT, ImagePromptAdapter, add_image_prompt, image_prompt_specs
from exporters.latent_upscaler import noise_and_text, preconditioned, require_condition, velocity
from exporters.lora_inputs import add_loras, lora_input_specs
from exporters.network import Network, text_spec, trials
from exporters.text_encoder import TEXT_EMBEDS
from exporters.traced_defaults import register_defaults
from exporters.unet_conditioning import TIME_IDS, added_conditions, hidden_width, side_by_side, time_ids

# What a U-Net of the families that we export does not have; each would need an input that no stage hands over.
_EXTRA_INPUTS = ("class_embed_type", "encoder_hid_dim_type")

_RGB = 3


class _Denoiser(nn.Module):
    """A U-Net that takes what the contract names: `beside` the latents, timesteps and hidden states, and `added` last.

    What its layers take by themselves is kept in `within` while it runs. What is added may be left out, all of it.
    """

    def __init__(
        self,
        unet: UNet2DConditionModel,
        beside: Sequence[TensorSpec],
        added: Sequence[TensorSpec],
        within: dict[str, Tensor],
        upscales_latents: bool = False,
    ) -> None:
        super().__init__()
        self.unet = unet
        self.upscales_latents = upscales_latents
        self.beside = [spec.name for spec in beside]
        self.added = [spec.name for spec in added]
        # not an attribute, which torch's tracer watches
        self._enter: Callable[[dict[str, Tensor]], None] = within.update
        register_defaults(self, added)

    def forward(self, latents: Tensor, timestep: Tensor, hidden_states: Tensor, *beside: Tensor) -> tuple[Tensor]:
        own, added = beside[: len(self.beside)], beside[len(self.beside) :]
        given = dict(zip(self.beside, own, strict=True))
        controls = dict(zip(self.added, added or map(self.get_buffer, self.added), strict=True))
        if PROMPT in given:
            # of as many rows as the rest, also where it is left out
            given[PROMPT] = given[PROMPT] + timestep[:, None, None] * 0
        self._enter({**given, **controls})
        if "image_channels" in given:
            latents = torch.cat([latents, given["image_channels"]], dim=1)
        embedded = noise_and_text(given[TEXT_EMBEDS[0]]) if self.upscales_latents else None
        if "guidance" in given:
            embedded = _embedded_guidance(given["guidance"], self.unet.config.time_cond_proj_dim)
        (prediction,) = self.unet(
            latents,
            timestep,
            encoder_hidden_states=side_by_side(hidden_states, given),
            timestep_cond=embedded,
            class_labels=given.get("noise_level"),
            added_cond_kwargs=added_conditions(given),
            cross_attention_kwargs=box_arguments(given, timestep) if BOX_INPUTS[0] in given else None,
            return_dict=False,
            **unet_arguments(controls),
        )
        return (velocity(prediction) if self.upscales_latents else prediction,)


def _embedded_guidance(guidance: Tensor, width: int) -> Tensor:
    """Sines and cosines [batch, width] of a guidance scale [batch], as Luo et al. 2023, "Latent Consistency Models"."""
    half = width // 2
    frequencies = torch.exp(torch.arange(half, dtype=torch.float32) * (-math.log(10000.0) / (half - 1)))
    angles = (guidance - 1)[:, None] * 1000 * frequencies
    return nn.functional.pad(torch.cat([angles.sin(), angles.cos()], dim=1), (0, width % 2))


@dataclass(frozen=True)
class UnetInputs:
    """What requests may bring to a U-Net beside its own inputs: LoRAs for each row, pictures by an adapter, boxes."""

    loras: bool = False
    image_prompt: ImagePromptAdapter | None = None
    boxes: bool = False

    @property
    def sizes(self) -> dict[str, int]:
        """The dimensions of these inputs, for trials."""
        return {**({"rank": 2} if self.loras else {}), **({} if self.image_prompt is None else {"image_tokens": 2})}

    def give(self, unet: UNet2DConditionModel, within: dict[str, Tensor]) -> list[TensorSpec]:
        """Let the U-Net's layers take the inputs from `within`, and say what they are.

        Raises:
            ExportError: the adapter is for another U-Net, or the U-Net takes no boxes.
        """
        specs: list[TensorSpec] = []
        if self.image_prompt is not None:
            specs += image_prompt_specs(unet)
            add_image_prompt(unet, self.image_prompt, within)
        if self.loras:
            specs += lora_input_specs(unet)
            add_loras(unet, within)
        if self.boxes:
            specs += box_specs(unet)
            # last, as the names of layers change by it
            add_boxes(unet, within)
        return specs


def denoiser(
    checkpoint: Checkpoint,
    space: LatentSpace,
    conditioning: tuple[Conditioning, ...],
    preview: LatentProjection,
    guidance: float | None = None,
    more: UnetInputs | None = None,
) -> Network:
    """Read the checkpoint's U-Net; every row has a timestep of its own.

    `conditioning` is what the text encoder hands to it, `preview` how the latents look, and `guidance` what it draws
    best at. `more` is what it is given beside its own inputs, nothing if there is none.

    Raises:
        ExportError: the U-Net takes other latents than the VAE's, or conditioning that no stage hands over.
    """
    unet = checkpoint.unet()
    config = unet.config
    image_channels = _image_channels(unet, space)
    _require_known(unet)
    _require_width(unet, conditioning)
    told = time_ids(config, conditioning, "unet")
    height, width = (config.sample_size,) * 2 if isinstance(config.sample_size, int) else config.sample_size
    sources = [part.source for part in image_channels]
    upscales_latents = sources == ["low_resolution_latents"]
    # of a picture half as large the VAE's latents must be whole ones
    multiple = max(2 ** (len(config.block_out_channels) - 1), 2 if upscales_latents else 1)
    latents = ("batch", space.channels, "height", "width")
    tokens = next(array.tokens for array in conditioning if array.tokens is not None)
    schedule = checkpoint.schedule()
    if upscales_latents:
        require_condition(unet, conditioning)
        schedule = preconditioned(schedule)
    embeds_guidance = config.time_cond_proj_dim is not None and not upscales_latents
    beside = [text_spec(array) for array in conditioning[1:]]
    if told:
        beside.append(TensorSpec(name=TIME_IDS, dtype="float32", shape=("batch", len(told))))
    if image_channels:
        channels = sum(part.channels for part in image_channels)
        shape = ("batch", channels, "height", "width")
        beside.append(TensorSpec(name="image_channels", dtype="float32", shape=shape))
    enlarging = checkpoint.enlarging() if sources == ["low_resolution"] else None
    _require_labels(unet, enlarging)
    if enlarging is not None:
        beside.append(TensorSpec(name="noise_level", dtype="int64", shape=("batch",)))
    if embeds_guidance:
        beside.append(TensorSpec(name="guidance", dtype="float32", shape=("batch",)))
    within: dict[str, Tensor] = {}
    more = UnetInputs() if more is None else more
    beside += more.give(unet, within)
    # no ControlNet or adapter is made for the blocks of one that upscales latents
    added = [] if upscales_latents else [*control_specs(config), *adapter_specs(config)]
    if any(spec.name == ADAPTER_MID for spec in added):
        add_in_the_middle(unet, within)
    contract = Contract(
        kind=Kind.DENOISER,
        inputs=(
            TensorSpec(name="latents", dtype="float32", shape=latents),
            TensorSpec(name="timestep", dtype="float32", shape=("batch",)),
            text_spec(conditioning[0]),
            *beside,
            *added,
        ),
        outputs=(TensorSpec(name="prediction", dtype="float32", shape=latents),),
        latent_space=space,
        conditioning=conditioning,
        noise_schedule=schedule if isinstance(schedule, NoiseSchedule) else None,
        flow_schedule=schedule if isinstance(schedule, FlowSchedule) else None,
        latent_size=(height, width),
        latent_multiple=multiple,
        image_channels=image_channels,
        # diffusers' default
        image_guidance=1.5 if sources == ["image"] else None,
        noise_levels=None if enlarging is None else enlarging.noise_levels,
        low_resolution_schedule=None if enlarging is None else enlarging.schedule,
        time_ids=told,
        zeros_for_empty_negative=checkpoint.zeros_for_empty_prompt,
        embeds_guidance=embeds_guidance,
        guidance=guidance,
        preview=preview,
    )
    small = {"height": 2 * multiple, "width": 2 * multiple, "tokens": max(2, tokens // 2 - 1), **more.sizes}
    whole = {"height": height, "width": width, "tokens": tokens, **more.sizes}
    module = _Denoiser(unet, beside, added, within, upscales_latents)
    return Network(module, contract, trials(small, whole), bound=contract.noise_levels or 1)


def _require_width(unet: UNet2DConditionModel, conditioning: Sequence[Conditioning]) -> None:
    given = hidden_width(conditioning)
    if unet.config.cross_attention_dim != given:
        raise ExportError(
            f"unet: cross_attention_dim={unet.config.cross_attention_dim}: the text encoder's hidden states are "
            f"{given} wide"
        )


def _image_channels(unet: UNet2DConditionModel, space: LatentSpace) -> tuple[ImageChannels, ...]:
    """What a U-Net looks at beside the latents: how many more channels it takes tells the tasks apart."""
    config, latents = unet.config, space.channels
    known: dict[tuple[int, int], tuple[ImageChannels, ...]] = {
        (latents, latents): (),
        (latents + 1, latents): (ImageChannels(source="depth", channels=1),),
        (latents + _RGB, latents): (ImageChannels(source="low_resolution", channels=_RGB),),
        (2 * latents, latents): (ImageChannels(source="image", channels=latents),),
        # and a variance
        (2 * latents, latents + 1): (ImageChannels(source="low_resolution_latents", channels=latents),),
        (2 * latents + 1, latents): (
            ImageChannels(source="mask", channels=1),
            ImageChannels(source="masked_image", channels=latents),
        ),
    }
    found = (config.in_channels, config.out_channels)
    if found not in known:
        allowed = " or ".join(f"{taken} and give {given}" for taken, given in known)
        raise ExportError(
            f"unet: takes {config.in_channels} channels and gives {config.out_channels}; with the VAE's latents of "
            f"{latents} it must take {allowed}"
        )
    return known[found]


def _require_labels(unet: UNet2DConditionModel, enlarging: Enlarging | None) -> None:
    labels = unet.config.num_class_embeds
    least = 0 if enlarging is None else enlarging.noise_levels
    if (labels is None) != (enlarging is None) or (labels or 0) < least:
        wanted = "must be null" if enlarging is None else f"must be at least {least}, its noise levels"
        raise ExportError(f"unet: num_class_embeds={labels}: {wanted}")


def _require_known(unet: UNet2DConditionModel) -> None:
    config = unet.config
    if not isinstance(config.cross_attention_dim, int):
        raise ExportError(f"unet: cross_attention_dim={config.cross_attention_dim}: must be one number")
    if config.sample_size is None:
        raise ExportError("unet: sample_size is not given: at which size was it trained?")
    for field in _EXTRA_INPUTS:
        if getattr(config, field, None) is not None:
            raise ExportError(f"unet: {field}={getattr(config, field)!r} is not supported")
    if getattr(config, "addition_embed_type", None) not in (None, "text", "text_time"):
        raise ExportError(f"unet: addition_embed_type={config.addition_embed_type!r} is not supported")
