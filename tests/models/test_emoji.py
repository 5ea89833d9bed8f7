"""The bundled model: that it is whole, small, exact, and the same to a user of diffusers."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from diffusers import (
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    StableDiffusionPipeline,
    UniPCMultistepScheduler,
)

from components.contract import PARTS, Kind
from pipeline.bundle import open_bundle
from pipeline.text_to_image import TextToImage
from runtime.golden import require_golden
from runtime.session import Session
from runtime.settings import SessionSettings

BUNDLE = Path(__file__).parents[2] / "models" / "emoji"
CHECKPOINT = BUNDLE / "checkpoint"
CPU = SessionSettings(provider="cpu")
MB = 10**6
# torch, diffusers and transformers warn of packages that are not there and of their own deprecations
QUIET = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def chain() -> TextToImage:
    return TextToImage.load(BUNDLE, CPU)


def bytes_below(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def test_it_stays_small() -> None:
    assert bytes_below(CHECKPOINT) < 40 * MB
    assert sum(bytes_below(BUNDLE / kind) for kind in PARTS) < 60 * MB


def test_every_component_is_whole_and_as_exact_as_when_it_was_exported() -> None:
    for folder in open_bundle(BUNDLE, PARTS).values():
        assert folder.manifest.weights == "float16"
        require_golden(Session.open(folder, CPU), folder)


def test_a_rows_bytes_do_not_depend_on_its_company() -> None:
    folder = open_bundle(BUNDLE, PARTS)[Kind.DENOISER]
    session = Session.open(folder, CPU)
    rng = np.random.default_rng(0)
    tokens, width = folder.manifest.contract.conditioning[0].tokens, folder.manifest.contract.conditioning[0].width
    feeds = {
        "latents": rng.standard_normal((5, 4, 16, 16), np.float32),
        "timestep": np.array([999, 3, 500, 500, 40], np.float32),
        "hidden_states": rng.standard_normal((5, tokens, width), np.float32),
    }
    together = session.run(feeds)["prediction"]
    for rows in ([0], [4], [1, 2], [4, 0, 3]):
        apart = session.run({name: array[rows] for name, array in feeds.items()})["prediction"]
        np.testing.assert_array_equal(apart, together[rows])


def test_no_path_of_the_machine_that_trained_it_is_in_its_files() -> None:
    for file in BUNDLE.rglob("*.json"):
        content = json.loads(file.read_text(encoding="utf-8"))
        assert "_name_or_path" not in content, file.name
    for file in BUNDLE.rglob("*.onnx"):
        assert b"site-packages" not in file.read_bytes(), file.parent.name


@QUIET
@pytest.mark.parametrize(("prompt", "guidance"), [("a red apple, 3d style", 3.0), ("cat, flat style", 1.0)])
def test_a_user_of_diffusers_gets_the_same_picture(chain: TextToImage, prompt: str, guidance: float) -> None:
    pipe = StableDiffusionPipeline.from_pretrained(CHECKPOINT)
    pipe.set_progress_bar_config(disable=True)
    noise = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(7))
    theirs = pipe(prompt, latents=noise, num_inference_steps=25, guidance_scale=guidance, output_type="np").images[0]
    ours = chain.generate(prompt, noise=noise.numpy(), steps=25, guidance=guidance, sampler="ddim")
    difference = np.abs(np.asarray(ours).astype(float) - np.round(theirs * 255))
    assert difference.mean() <= 1
    assert np.asarray(ours).std() > 10, "an empty picture equals any other"


@QUIET
@pytest.mark.parametrize(
    "scheduler", [DPMSolverMultistepScheduler, EulerAncestralDiscreteScheduler, UniPCMultistepScheduler]
)
def test_a_seed_of_diffusers_gives_its_picture(chain: TextToImage, scheduler: Any) -> None:
    pipe = StableDiffusionPipeline.from_pretrained(CHECKPOINT)
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = scheduler.from_config(pipe.scheduler.config)
    seeded = torch.Generator("cpu").manual_seed(42)
    (theirs,) = pipe("rocket, 3d style", generator=seeded, num_inference_steps=20, guidance_scale=2, output_type="np")[
        0
    ]
    ours = chain.generate(
        "rocket, 3d style",
        seed=42,
        rng="torch",
        steps=20,
        guidance=2.0,
        sampler=scheduler.__name__,
    )
    assert np.abs(np.asarray(ours).astype(float) - np.round(theirs * 255)).mean() <= 1
    assert np.asarray(ours).std() > 10, "an empty picture equals any other"


@pytest.mark.parametrize("seed", range(4))
def test_the_apple_is_red(chain: TextToImage, seed: int) -> None:
    red, green, blue = middle(np.asarray(chain.generate("a red apple, 3d style", seed=seed)))
    assert red > 150
    assert red > 2 * max(green, blue)


def test_the_prompt_decides_what_is_drawn(chain: TextToImage) -> None:
    _, apple, _ = middle(np.asarray(chain.generate("a green apple, 3d style", seed=0)))
    red, green, _ = middle(np.asarray(chain.generate("a red apple, 3d style", seed=0)))
    assert apple > green
    assert red > green


def middle(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """Mean red, green and blue of the middle quarter."""
    height, width, _ = pixels.shape
    inner = pixels[height // 4 : -height // 4, width // 4 : -width // 4]
    means: npt.NDArray[np.float64] = inner.reshape(-1, 3).mean(axis=0)
    return means
