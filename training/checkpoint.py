"""The checkpoint: all parts of the model in the layout of diffusers, with what its training has behind it."""

import copy
import json
import shutil
from dataclasses import asdict
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from training.loop import History

_HISTORY_NAME = "training.json"


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


def save(pipe: StableDiffusionPipeline, history: History, folder: Path) -> None:
    """Write float16 safetensors, without paths of this machine, replacing `folder` when all is written."""
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    text_encoder = copy.deepcopy(pipe.text_encoder).half()
    # its configuration must not ask for float16, in which a CPU computes slowly and coarsely
    text_encoder.config.dtype = torch.float32
    vae, unet = copy.deepcopy(pipe.vae).half(), copy.deepcopy(pipe.unet).half()
    assemble(vae, text_encoder, pipe.tokenizer, unet, pipe.scheduler).save_pretrained(partial)
    _forget_paths(partial)
    (partial / _HISTORY_NAME).write_text(json.dumps(asdict(history), indent=2) + "\n", encoding="utf-8")
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
    return History(**json.loads((folder / _HISTORY_NAME).read_text(encoding="utf-8")))


def _forget_paths(folder: Path) -> None:
    for file in folder.rglob("*.json"):
        content = json.loads(file.read_text(encoding="utf-8"))
        if isinstance(content, dict) and content.pop("_name_or_path", None) is not None:
            file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
