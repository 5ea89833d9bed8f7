"""The checkpoint: all parts of the model in the layout of diffusers, with what its training has behind it."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DiffusionPipeline,
    ModelMixin,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from safetensors.torch import load_file, save_file
from transformers import CLIPTextModel, CLIPTokenizer

from training.loop import History

HISTORY_NAME = "training.json"


def assemble(
    vae: AutoencoderKL,
    text_encoder: CLIPTextModel,
    tokenizer: CLIPTokenizer,
    unet: UNet2DConditionModel,
    scheduler: DDIMScheduler,
) -> StableDiffusionPipeline:
    """All parts as diffusers' pipeline."""
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def save(made: DiffusionPipeline | ModelMixin, history: History, folder: Path) -> None:
    """Write a pipeline or one network as float16 safetensors, without paths of this machine.

    It replaces `folder` when all is written. What reads it computes in float32, unless told otherwise.
    """
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    made.save_pretrained(partial)
    for file in partial.rglob("*.safetensors"):
        weights = load_file(file)
        halves = {name: each.half() if each.is_floating_point() else each for name, each in weights.items()}
        save_file(halves, file, {"format": "pt"})
    for file in partial.rglob("*.json"):
        rewrite(file, _name_or_path=None)
    (partial / HISTORY_NAME).write_text(json.dumps(asdict(history), indent=2) + "\n", encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)


def load(folder: Path) -> StableDiffusionPipeline:
    """The pipeline of a checkpoint, computing in float32."""
    return assemble(
        AutoencoderKL.from_pretrained(folder / "vae", torch_dtype=torch.float32).eval(),
        CLIPTextModel.from_pretrained(folder / "text_encoder", dtype=torch.float32).eval(),
        CLIPTokenizer.from_pretrained(folder / "tokenizer"),
        UNet2DConditionModel.from_pretrained(folder / "unet", torch_dtype=torch.float32).eval(),
        DDIMScheduler.from_pretrained(folder / "scheduler"),
    )


def history(folder: Path) -> History:
    """What the training of a checkpoint has behind it."""
    return History(**json.loads((folder / HISTORY_NAME).read_text(encoding="utf-8")))


def rewrite(file: Path, **fields: str | None) -> None:
    """Change fields of a JSON object; None takes a field out."""
    content = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        return
    changed = {name: value for name, value in {**content, **fields}.items() if value is not None or name not in fields}
    if changed != content:
        file.write_text(json.dumps(changed, indent=2) + "\n", encoding="utf-8")
