"""Tiny pipelines of random weights in the shape of SD 1.x and SD 2.x, as diffusers saves them."""

import shutil
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel

from components.contract import Kind
from components.manifest import Origin
from exporters.bundle import BundleOptions, export_bundle
from exporters.checkpoint import Checkpoint
from exporters.component import exporter_versions, write_component
from exporters.denoiser import denoiser
from exporters.preview import fit_preview
from exporters.text_encoder import text_encoder, tokenizer_files
from exporters.vae import latent_space
from tests.exporters import original_names, sdxl
from tests.exporters.tokenizers import TOKENS, tiny_tokenizer

_WIDTH = 16


@dataclass(frozen=True)
class Family:
    """What sets a family apart."""

    name: str
    text: dict[str, Any]
    unet: dict[str, Any]
    scheduler: PNDMScheduler | DDIMScheduler


def _families() -> tuple[Family, ...]:
    betas = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    return (
        Family(
            "sd1",
            {"hidden_act": "quick_gelu"},
            {"attention_head_dim": 2},
            PNDMScheduler(**betas, skip_prk_steps=True, steps_offset=1),
        ),
        Family(
            "sd2",
            {"hidden_act": "gelu", "pad_token_id": 0},
            {"attention_head_dim": (2, 4), "use_linear_projection": True},
            DDIMScheduler(**betas, prediction_type="v_prediction", clip_sample=False, set_alpha_to_one=False),
        ),
        # as the bundled model: the U-Net also sums up its conditioning
        Family(
            "summary",
            {},
            {
                "attention_head_dim": 2,
                "addition_embed_type": "text",
                "addition_embed_type_num_heads": 2,
                "resnet_time_scale_shift": "scale_shift",
            },
            DDIMScheduler(
                beta_schedule="squaredcos_cap_v2",
                prediction_type="v_prediction",
                clip_sample=False,
                timestep_spacing="trailing",
                steps_offset=1,
            ),
        ),
    )


FAMILIES = {family.name: family for family in _families()}


def tiny_pipeline(family: Family, **unet: Any) -> StableDiffusionPipeline:
    """A family's pipeline of random weights; its U-Net differs in the fields of its configuration that are given."""
    torch.manual_seed(0)
    tokenizer = tiny_tokenizer(pad="!" if family.name == "sd2" else None)
    return StableDiffusionPipeline(
        vae=AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            block_out_channels=(8, 16),
            latent_channels=4,
            norm_num_groups=4,
            sample_size=32,
            scaling_factor=0.18215,
        ),
        text_encoder=CLIPTextModel(
            CLIPTextConfig(
                **{
                    "vocab_size": len(tokenizer),
                    "hidden_size": _WIDTH,
                    "intermediate_size": 32,
                    "projection_dim": _WIDTH,
                    "num_hidden_layers": 2,
                    "num_attention_heads": 2,
                    "max_position_embeddings": TOKENS,
                    "bos_token_id": tokenizer.bos_token_id,
                    "eos_token_id": tokenizer.eos_token_id,
                    "pad_token_id": tokenizer.pad_token_id,
                    **family.text,
                }
            )
        ),
        tokenizer=tokenizer,
        unet=UNet2DConditionModel(
            **{
                "sample_size": 16,
                "in_channels": 4,
                "out_channels": 4,
                "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
                "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
                "block_out_channels": (16, 32),
                "layers_per_block": 1,
                "norm_num_groups": 8,
                "cross_attention_dim": _WIDTH,
                **family.unet,
                **unet,
            }
        ),
        scheduler=family.scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def saved_pipeline(family: str, path: Path) -> Path:
    """The folder `path` of a family's tiny pipeline, which is made there."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tiny_pipeline(FAMILIES[family]).save_pretrained(path)
    return path


@pytest.fixture(scope="session", params=list(FAMILIES))
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of each family's pipeline."""
    return saved_pipeline(request.param, tmp_path_factory.mktemp("checkpoint") / request.param)


@pytest.fixture(scope="session")
def bundle(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The components of each family's pipeline."""
    out = tmp_path_factory.mktemp("bundle") / checkpoint.name
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        export_bundle(checkpoint, out, BundleOptions(checkpoint.name, source="a test"))
    return out


@pytest.fixture(scope="session")
def single_file(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Each family's pipeline as one file."""
    pipe = tiny_pipeline(FAMILIES[checkpoint.name])
    prefix = f"cond_stage_model.{'model' if checkpoint.name == 'sd2' else 'transformer'}."
    path: Path = tmp_path_factory.mktemp("file") / f"{checkpoint.name}.safetensors"
    save_file(original_names.single_file(pipe, {"text_encoder": prefix}), path)
    return path


@pytest.fixture(scope="session")
def sdxl_checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folders of SDXL's base and refiner."""
    root = tmp_path_factory.mktemp("sdxl")
    sdxl.tiny_base(levels=3).save_pretrained(root / "base")
    sdxl.tiny_refiner().save_pretrained(root / "refiner")
    return {name: root / name for name in ("base", "refiner")}


@pytest.fixture(scope="session")
def sdxl_bundles(sdxl_checkpoints: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The components of SDXL's base and refiner, in one latent space, and so with one VAE's."""
    root = tmp_path_factory.mktemp("sdxl-bundles")
    # in float32, so that diffusers can draw with the folder as it is
    export_bundle(sdxl_checkpoints["base"], root / "base", BundleOptions("base", "float32", "sdxl"))
    refiner = Checkpoint.open(sdxl_checkpoints["refiner"])
    vae = refiner.vae()
    space = latent_space(vae, "sdxl")
    texts = text_encoder(refiner)
    denoises = denoiser(refiner, space, texts.contract.conditioning, fit_preview(vae, space))
    origin = Origin(source="a test", exporter=exporter_versions())
    tokenizers = tokenizer_files(refiner.tokenizers())
    for network, files in ((texts, tokenizers), (denoises, {})):
        write_component(network, root / "refiner" / network.contract.kind, "float32", origin, files)
    for kind in (Kind.VAE_DECODER, Kind.VAE_ENCODER):
        shutil.copytree(root / "base" / kind, root / "refiner" / kind)
    return {name: root / name for name in sdxl_checkpoints}
