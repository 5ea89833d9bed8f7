"""The way back: networks of diffusers and transformers under the names of single-file checkpoints."""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

Weights = Mapping[str, Tensor]

_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_UNET = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "class_embedding": "label_emb",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "mid_block.attentions.0": "middle_block.1",
}
_VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
_OPEN_CLIP = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}
_OPEN_CLIP_WHOLE = {
    "embeddings.token_embedding.weight": "token_embedding.weight",
    "embeddings.position_embedding.weight": "positional_embedding",
    "final_layer_norm.weight": "ln_final.weight",
    "final_layer_norm.bias": "ln_final.bias",
}


def single_file(pipe: Any, text_prefixes: Mapping[str, str]) -> dict[str, Tensor]:
    """The tensors of a pipeline as one file has them, its text encoders below these prefixes."""
    names = [name for name in ("unet", "transformer", "vae", *text_prefixes) if getattr(pipe, name, None) is not None]
    return together(network(name, getattr(pipe, name), text_prefixes.get(name, "")) for name in names)


def network(part: str, module: Any, text_prefix: str = "") -> dict[str, Tensor]:
    """A part's weights in a single file; those of text encoders are below `text_prefix`."""
    weights = module.state_dict()
    if part == "unet":
        return unet(weights, module.config.layers_per_block)
    if part == "vae":
        return vae(weights, len(module.config.block_out_channels))
    if part == "transformer":
        return mmdit(weights)
    if part == "text_encoder_3":
        return {f"{text_prefix}{name}": weight for name, weight in weights.items()}
    return open_clip(weights, text_prefix) if text_prefix.endswith(".model.") else clip(weights, text_prefix)


def unet(weights: Weights, layers: int) -> dict[str, Tensor]:
    """A UNet2DConditionModel of `layers` layers a block, in the names of the latent diffusion paper's code."""
    attended = {match[1] for name in weights if (match := re.match(r"up_blocks\.(\d+)\.attentions", name))}
    count = layers + 1

    def original(name: str) -> str:
        for ours, theirs in _UNET.items():
            if name.startswith(f"{ours}."):
                return theirs + name.removeprefix(ours)
        side, block, kind, layer, rest = _parts(name)
        if side == "mid_block":
            return f"middle_block.{2 * layer}.{_renamed(rest, _RESNET)}"
        if kind == "downsamplers":
            return f"input_blocks.{(block + 1) * count}.0.op.{rest.removeprefix('conv.')}"
        if kind == "upsamplers":
            return f"output_blocks.{block * count + layers}.{2 if str(block) in attended else 1}.{rest}"
        place = (
            f"input_blocks.{block * count + layer + 1}"
            if side == "down_blocks"
            else (f"output_blocks.{block * (count) + layer}")
        )
        return f"{place}.0.{_renamed(rest, _RESNET)}" if kind == "resnets" else f"{place}.1.{rest}"

    return {f"model.diffusion_model.{original(name)}": weight for name, weight in weights.items()}


def vae(weights: Weights, blocks: int) -> dict[str, Tensor]:
    """An AutoencoderKL of `blocks` blocks, whose attention was made of convolutions."""

    def original(name: str) -> str:
        half, _, rest = name.partition(".")
        if half not in ("encoder", "decoder"):
            return name
        if rest.startswith("conv_norm_out"):
            return f"{half}.{rest.removeprefix('conv_')}"
        if not rest.startswith(("down_blocks", "up_blocks", "mid_block")):
            return name
        side, block, kind, layer, inner = _parts(rest)
        if kind == "attentions":
            return f"{half}.mid.attn_1.{_renamed(inner, _VAE_ATTENTION)}"
        if side == "mid_block":
            return f"{half}.mid.block_{layer + 1}.{inner}"
        way, number = ("down", block) if side == "down_blocks" else ("up", blocks - 1 - block)
        if kind == "resnets":
            return f"{half}.{way}.{number}.block.{layer}.{inner.replace('conv_shortcut', 'nin_shortcut')}"
        return f"{half}.{way}.{number}.{way}sample.{inner}"

    return {
        f"first_stage_model.{original(name)}": weight[:, :, None, None]
        if "attentions" in name and weight.ndim == 2
        else weight
        for name, weight in weights.items()
    }


def clip(weights: Weights, prefix: str) -> dict[str, Tensor]:
    """A CLIPTextModel as transformers had it when SD 1.x was published, with the buffer that it no longer saves."""
    names = {f"{prefix}{_wrapped(name)}": weight for name, weight in weights.items()}
    [positions] = [len(weight) for name, weight in weights.items() if name.endswith("position_embedding.weight")]
    return {**names, f"{prefix}text_model.embeddings.position_ids": torch.arange(positions)[None]}


def open_clip(weights: Weights, prefix: str) -> dict[str, Tensor]:
    """A text encoder of OpenCLIP, whose queries, keys and values are one matrix."""
    found: dict[str, Tensor] = {f"{prefix}logit_scale": torch.zeros(())}
    for name, weight in ((name.removeprefix("text_model."), weight) for name, weight in weights.items()):
        if name == "text_projection.weight":
            found[f"{prefix}text_projection"] = weight.T.contiguous()
        elif name in _OPEN_CLIP_WHOLE:
            found[prefix + _OPEN_CLIP_WHOLE[name]] = weight
        elif match := re.fullmatch(r"encoder\.layers\.(\d+)\.self_attn\.q_proj\.(weight|bias)", name):
            wrapper = "text_model." if f"text_model.{name}" in weights else ""
            three = [weights[wrapper + name.replace("q_proj", f"{which}_proj")] for which in "qkv"]
            found[f"{prefix}transformer.resblocks.{match[1]}.attn.in_proj_{match[2]}"] = torch.cat(three)
        elif not re.search(r"self_attn\.[kv]_proj", name):
            layer, rest = name.removeprefix("encoder.layers.").split(".", 1)
            found[f"{prefix}transformer.resblocks.{layer}.{_renamed(rest, _OPEN_CLIP)}"] = weight
    return found


def mmdit(weights: Weights) -> dict[str, Tensor]:
    """An SD3Transformer2DModel, whose queries, keys and values are one matrix."""
    last = max(int(match[1]) for name in weights if (match := re.match(r"transformer_blocks\.(\d+)\.", name)))
    found = {}
    for ours, theirs in _MMDIT.items():
        for name in [name for name in weights if name == ours or name.startswith(f"{ours}.")]:
            found[theirs + name.removeprefix(ours)] = weights[name]
    for name in ("weight", "bias"):
        found[f"final_layer.adaLN_modulation.1.{name}"] = _swapped(weights[f"norm_out.linear.{name}"])
    for block in range(last + 1):
        found |= _joint_block(weights, block, block == last)
    return {f"model.diffusion_model.{name}": weight for name, weight in found.items()}


_MMDIT = {
    "pos_embed.pos_embed": "pos_embed",
    "pos_embed.proj": "x_embedder.proj",
    "time_text_embed.timestep_embedder.linear_1": "t_embedder.mlp.0",
    "time_text_embed.timestep_embedder.linear_2": "t_embedder.mlp.2",
    "time_text_embed.text_embedder.linear_1": "y_embedder.mlp.0",
    "time_text_embed.text_embedder.linear_2": "y_embedder.mlp.2",
    "context_embedder": "context_embedder",
    "proj_out": "final_layer.linear",
}
_JOINT = {
    "attn.to_out.0": "x_block.attn.proj",
    "attn.to_add_out": "context_block.attn.proj",
    "attn.norm_q": "x_block.attn.ln_q",
    "attn.norm_k": "x_block.attn.ln_k",
    "attn.norm_added_q": "context_block.attn.ln_q",
    "attn.norm_added_k": "context_block.attn.ln_k",
    "attn2.to_out.0": "x_block.attn2.proj",
    "attn2.norm_q": "x_block.attn2.ln_q",
    "attn2.norm_k": "x_block.attn2.ln_k",
    "norm1.linear": "x_block.adaLN_modulation.1",
    "norm1_context.linear": "context_block.adaLN_modulation.1",
    "ff.net.0.proj": "x_block.mlp.fc1",
    "ff.net.2": "x_block.mlp.fc2",
    "ff_context.net.0.proj": "context_block.mlp.fc1",
    "ff_context.net.2": "context_block.mlp.fc2",
}
_THREE = {
    "x_block.attn.qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
    "context_block.attn.qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
    "x_block.attn2.qkv": ("attn2.to_q", "attn2.to_k", "attn2.to_v"),
}


def _joint_block(weights: Weights, block: int, last: bool) -> dict[str, Tensor]:
    ours, theirs = f"transformer_blocks.{block}.", f"joint_blocks.{block}."
    inner = {name.removeprefix(ours): weight for name, weight in weights.items() if name.startswith(ours)}
    found = {}
    for kind in ("weight", "bias"):
        for new, old in _JOINT.items():
            if (weight := inner.get(f"{new}.{kind}")) is not None:
                # the last block's text is only looked at, and its norm has no gate
                turn: Callable[[Tensor], Tensor] = (
                    _swapped if last and new == "norm1_context.linear" else lambda kept: kept
                )
                found[f"{theirs}{old}.{kind}"] = turn(weight)
        for old, three in _THREE.items():
            if f"{three[0]}.{kind}" in inner:
                found[f"{theirs}{old}.{kind}"] = torch.cat([inner[f"{new}.{kind}"] for new in three])
    return found


def _swapped(weight: Tensor) -> Tensor:
    """Shift before scale, as the original has it."""
    scale, shift = weight.chunk(2, dim=0)
    return torch.cat([shift, scale])


def _parts(name: str) -> tuple[str, int, str, int, str]:
    """`up_blocks.1.resnets.0.conv1.weight` taken apart; the block of `mid_block` is 0."""
    match = re.fullmatch(r"(\w+_blocks?)\.(?:(\d+)\.)?(\w+)\.(\d+)\.(.+)", name)
    assert match is not None, name
    return match[1], int(match[2] or 0), match[3], int(match[4]), match[5]


def _renamed(name: str, names: Mapping[str, str]) -> str:
    for ours, theirs in names.items():
        if name.startswith(f"{ours}."):
            return theirs + name.removeprefix(ours)
    raise AssertionError(name)


def _wrapped(name: str) -> str:
    return name if name.startswith(("text_model.", "text_projection")) else f"text_model.{name}"


def together(parts: Iterable[Weights]) -> dict[str, Tensor]:
    """One file's tensors, each with memory of its own, as safetensors wants them."""
    return {name: weight.clone().contiguous() for part in parts for name, weight in part.items()}
