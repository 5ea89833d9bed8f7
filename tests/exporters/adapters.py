"""Random LoRAs for the tiny pipelines, in the layouts that are published."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

PROJECTIONS = ("to_q", "to_k", "to_v", "to_out.0")
ENCODERS = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")


def factors(network: nn.Module, ends: tuple[str, ...], rank: int, seed: int) -> dict[str, tuple[Tensor, Tensor]]:
    """Down and up for every layer of the network whose name ends so."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for name, module in network.named_modules():
        if isinstance(module, nn.Linear) and name.endswith(ends):
            down = torch.randn(rank, module.in_features, generator=generator) * 0.3
            found[name] = (down, torch.randn(module.out_features, rank, generator=generator) * 0.3)
    assert found, "no layer ends so"
    return found


def save_kohya(
    path: Path, unet: nn.Module, encoders: Mapping[str, nn.Module], rank: int = 3, alpha: float = 2.0
) -> Path:
    """In the layout of kohya's scripts, of U-Net and text encoders by what their names begin with, with an alpha."""
    parts = {
        f"lora_unet_{name.replace('.', '_')}": pair
        for name, pair in factors(unet, (*PROJECTIONS, "proj_in", "ff.net.2"), rank, seed=1).items()
    }
    for seed, (prefix, encoder) in enumerate(encoders.items(), 2):
        for name, pair in factors(encoder, ENCODERS, rank, seed).items():
            parts[f"lora_{prefix}_{name.replace('.', '_')}"] = pair
    tensors: dict[str, Tensor] = {}
    for name, (down, up) in parts.items():
        tensors |= {f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up}
        tensors[f"{name}.alpha"] = torch.tensor(alpha)
    save_file(tensors, path)
    return path


def save_peft(path: Path, unet: nn.Module, rank: int = 2, seed: int = 3) -> Path:
    """In the layout of diffusers' training scripts, of the U-Net's attentions alone."""
    tensors: dict[str, Tensor] = {}
    for name, (down, up) in factors(unet, PROJECTIONS, rank, seed).items():
        tensors |= {f"unet.{name}.lora_A.weight": down, f"unet.{name}.lora_B.weight": up}
    save_file(tensors, path)
    return path


def save_image_adapter(path: Path, unet: Any, projection: int) -> Path:
    """An IP-Adapter of the plain kind, of embeddings of that width, whose numbers weigh as much as the text's."""
    generator = torch.Generator().manual_seed(7)
    width = unet.config.cross_attention_dim

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    tensors = {
        "image_proj.proj.weight": random(4 * width, projection),
        "image_proj.proj.bias": random(4 * width),
        "image_proj.norm.weight": random(width),
        "image_proj.norm.bias": random(width),
    }
    crossing = [name for name in unet.attn_processors if name.endswith("attn2.processor")]
    for number, name in enumerate(crossing):
        wide = unet.get_submodule(name.removesuffix(".processor")).to_q.out_features
        for kind in ("k", "v"):
            tensors[f"ip_adapter.{2 * number + 1}.to_{kind}_ip.weight"] = random(wide, width)
    save_file(tensors, path)
    return path


def rounded_to_half(pipe: Any) -> Any:
    """The pipeline with the weights that float16 holds, as components store them."""
    for network in (pipe.vae, pipe.text_encoder, pipe.unet):
        for parameter in network.parameters():
            parameter.data.copy_(parameter.data.half())
    return pipe
