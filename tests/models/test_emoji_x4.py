"""The bundled upscaler: that its components are whole and exact, and enlarge a picture as diffusers does."""

from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionUpscalePipeline
from PIL import Image

from components.contract import PARTS, Kind
from pipeline.bundle import open_bundle
from pipeline.super_resolution import SuperResolution
from runtime.golden import require_golden
from runtime.session import Session
from runtime.settings import SessionSettings
from tests.differences import MOST_OFF, Measured

ROOT = Path(__file__).parents[2]
BUNDLE = ROOT / "models" / "emoji-x4"
CPU = SessionSettings(provider="cpu")
PROMPT = "a red apple, 3d style"


def bytes_of(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def test_every_component_is_whole_and_as_exact_as_when_it_was_exported() -> None:
    folders = open_bundle(BUNDLE, PARTS)
    assert folders[Kind.DENOISER].manifest.contract.enlarges
    for folder in folders.values():
        assert folder.manifest.weights == "float16"
        require_golden(Session.open(folder, CPU), folder)
    assert sum(bytes_of(folder.path) for folder in folders.values()) < 30 * 10**6


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("noise_level", "guidance"), [(0, 1.0), (20, 2.0)])
def test_it_enlarges_a_picture_as_diffusers_does(measured: Measured, noise_level: int, guidance: float) -> None:
    small = Image.open(ROOT / "docs" / "apple.png").convert("RGB").resize((32, 32), Image.Resampling.BICUBIC)
    pipe = StableDiffusionUpscalePipeline.from_pretrained(BUNDLE / "checkpoint", torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    theirs = pipe(
        PROMPT,
        small,
        num_inference_steps=10,
        guidance_scale=guidance,
        noise_level=noise_level,
        generator=torch.Generator("cpu").manual_seed(3),
        output_type="np",
    ).images[0]
    ours = SuperResolution.load(BUNDLE, CPU).generate(
        PROMPT, small, steps=10, guidance=guidance, noise_level=noise_level, seed=3, sampler="ddim"
    )
    assert ours.size == (128, 128)
    assert measured.note("super_resolution", "emoji-x4", type(pipe).__name__, ours, theirs) <= MOST_OFF
