"""Random LoRAs for the tiny pipelines, in the layouts that are published."""

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


def save_kohya(path: Path, unet: nn.Module, encoder: nn.Module, rank: int = 3, alpha: float = 2.0) -> Path:
    """In the layout of kohya's scripts, of U-Net and text encoder, with an alpha."""
    parts = {
        f"lora_unet_{name.replace('.', '_')}": pair
        for name, pair in factors(unet, (*PROJECTIONS, "proj_in", "ff.net.2"), rank, seed=1).items()
    }
    for name, pair in factors(encoder, ENCODERS, rank, seed=2).items():
        parts[f"lora_te_text_model_{name.replace('.', '_')}"] = pair
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


def rounded_to_half(pipe: Any) -> Any:
    """The pipeline with the weights that float16 holds, as components store them."""
    for network in (pipe.vae, pipe.text_encoder, pipe.unet):
        for parameter in network.parameters():
            parameter.data.copy_(parameter.data.half())
    return pipe
