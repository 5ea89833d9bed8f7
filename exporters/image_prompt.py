"""A U-Net with the attentions of an IP-Adapter: every row may bring pictures to be like, and how much."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from diffusers.loaders.unet import UNet2DConditionLoadersMixin
from diffusers.models.attention_processor import Attention, IPAdapterAttnProcessor2_0
from diffusers.models.embeddings import ImageProjection, IPAdapterPlusImageProjection
from torch import Tensor, nn

from components.contract import IMAGE_PROMPT, TensorSpec
from components.folder import sha256
from components.manifest import Edit
from exporters.adapter_files import read_safetensors
from exporters.errors import ExportError

PROMPT, SCALE = IMAGE_PROMPT, "image_prompt_scale"

# added to the logit of a token that is not there: its weight is exactly 0 beside any other
_AWAY = -1e9


@dataclass(frozen=True)
class ImagePromptAdapter:
    """The file of an IP-Adapter: `projection` of a picture to tokens, and keys and values for each attention."""

    path: Path
    projection: Mapping[str, Tensor]
    attentions: Mapping[str, Tensor]

    @classmethod
    def read(cls, path: Path) -> "ImagePromptAdapter":
        """Read a file.

        Raises:
            ExportError: it is a pickle or cannot be read, or is no IP-Adapter.
        """
        tensors = read_safetensors(path)
        parts: dict[str, dict[str, Tensor]] = {"image_proj": {}, "ip_adapter": {}}
        for name, tensor in tensors.items():
            part, _, rest = name.partition(".")
            if part not in parts:
                raise ExportError(f"{path.name}: is no IP-Adapter: it has {name}")
            parts[part][rest] = tensor.float()
        if not all(parts.values()):
            raise ExportError(f"{path.name}: is no IP-Adapter: it must have image_proj and ip_adapter")
        if any("lora" in name for name in parts["ip_adapter"]):
            raise ExportError(f"{path.name}: is an IP-Adapter for faces with a LoRA within, which is not supported")
        return cls(path, parts["image_proj"], parts["ip_adapter"])

    @property
    def edit(self) -> Edit:
        """What `component.json` says of it."""
        return Edit(kind="image_prompt", file=self.path.name, sha256=sha256(self.path))

    def image_projection(self) -> ImageProjection | IPAdapterPlusImageProjection:
        """What makes tokens of a picture's embedding, or of its hidden states.

        Raises:
            ExportError: it is none that diffusers makes of a picture alone.
        """
        try:
            made = UNet2DConditionLoadersMixin._convert_ip_adapter_image_proj_to_diffusers(
                self, dict(self.projection), low_cpu_mem_usage=False
            )
        except (KeyError, RuntimeError, ValueError) as error:
            raise ExportError(f"{self.path.name}: its image_proj does not load ({type(error).__name__})") from None
        if not isinstance(made, ImageProjection | IPAdapterPlusImageProjection):
            raise ExportError(f"{self.path.name}: a {type(made).__name__} is not supported")
        return made.eval().requires_grad_(False)


def image_prompt_specs(unet: UNet2DConditionModel) -> tuple[TensorSpec, ...]:
    """The inputs of pictures: tokens of all of them one after the other, of which any that are zeros are not there."""
    width = unet.config.cross_attention_dim
    return (
        TensorSpec(name=PROMPT, dtype="float32", shape=("batch", "image_tokens", width), optional=True),
        TensorSpec(name=SCALE, dtype="float32", shape=("batch",), optional=True),
    )


def add_image_prompt(unet: UNet2DConditionModel, adapter: ImagePromptAdapter, given: Mapping[str, Tensor]) -> None:
    """Let every attention to the text look at `given`'s pictures too, with the adapter's keys and values.

    Raises:
        ExportError: the adapter is for another family.
    """
    state = {"image_proj": dict(adapter.projection), "ip_adapter": dict(adapter.attentions)}
    try:
        theirs = unet._convert_ip_adapter_attn_to_diffusers([state], low_cpu_mem_usage=False)
    except (KeyError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[-1].strip()
        raise ExportError(f"{adapter.path.name}: is for another family than this U-Net: {reason}") from None
    unet.set_attn_processor(
        {
            name: _ImagePromptAttention(processor, given)
            if isinstance(processor, IPAdapterAttnProcessor2_0)
            else processor
            for name, processor in theirs.items()
        }
    )


class _ImagePromptAttention(nn.Module):
    """Attention to the text, and beside it to pictures by a row's scale: Ye et al. 2023, "IP-Adapter", equation 5."""

    def __init__(self, theirs: IPAdapterAttnProcessor2_0, given: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.to_k_ip, self.to_v_ip = theirs.to_k_ip[0], theirs.to_v_ip[0]
        # not an attribute, which torch's tracer watches
        self._taken = lambda name: given[name]

    def forward(
        self, attn: Attention, hidden_states: Tensor, encoder_hidden_states: Tensor, attention_mask: None = None
    ) -> Tensor:
        del attention_mask  # as in diffusers' own, for the U-Nets that we export

        def heads(projected: Tensor) -> Tensor:
            parts: Tensor = projected.unflatten(-1, (attn.heads, -1))  # type: ignore[no-untyped-call] # torch's own
            return parts.transpose(1, 2)

        attend = nn.functional.scaled_dot_product_attention
        query = heads(attn.to_q(hidden_states))
        text = attend(query, heads(attn.to_k(encoder_hidden_states)), heads(attn.to_v(encoder_hidden_states)))
        # one dimension for each: of the heads, of the queries
        prompt, scale = self._taken(PROMPT), self._taken(SCALE)[:, None, None, None]  # type: ignore[no-untyped-call] # a lambda
        there = prompt.abs().amax(dim=-1) > 0
        away = torch.where(there, torch.zeros(()), torch.full((), _AWAY))[:, None, None, :]
        pictures = attend(query, heads(self.to_k_ip(prompt)), heads(self.to_v_ip(prompt)), attn_mask=away)
        both = (text + scale * pictures).transpose(1, 2).flatten(2)
        out: Tensor = attn.to_out[1](attn.to_out[0](both))
        return out
