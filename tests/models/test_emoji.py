"""The bundled model: that it is whole, small, exact, and the same to a user of diffusers."""

import json
import re
import shlex
import subprocess
import sys
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
from PIL import Image
from transformers import CLIPTextModel, CLIPTokenizer

from components.contract import PARTS, Kind
from pipeline.bundle import open_bundle
from pipeline.denoiser import Denoiser
from pipeline.jobs import denoise_jobs
from pipeline.text_encoder import TextEncoder
from pipeline.text_to_image import TextToImage
from pipeline.vae_decoder import VaeDecoder
from runtime.golden import require_golden
from runtime.session import Session
from runtime.settings import SessionSettings
from tests.differences import MOST_OFF, Measured
from tests.requests import image_request

ROOT = Path(__file__).parents[2]
BUNDLE = ROOT / "models" / "emoji"
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
    (text,) = folder.manifest.contract.conditioning
    assert text.tokens is not None
    feeds = {
        "latents": rng.standard_normal((5, 4, 16, 16), np.float32),
        "timestep": np.array([999, 3, 500, 500, 40], np.float32),
        "hidden_states": rng.standard_normal((5, text.tokens, text.width), np.float32),
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


def theirs(prompt: str | None, scheduler: Any = None, **options: Any) -> npt.NDArray[np.float64]:
    """What diffusers draws from the checkpoint, 0..1; `scheduler` stands in for the checkpoint's."""
    pipe = StableDiffusionPipeline.from_pretrained(CHECKPOINT)
    pipe.set_progress_bar_config(disable=True)
    if scheduler is not None:
        pipe.scheduler = scheduler.from_config(pipe.scheduler.config)
    drawn: npt.NDArray[np.float64] = pipe(prompt, output_type="np", **options).images[0]
    return drawn


def assert_same_picture(measured: Measured, ours: Image.Image, expected: npt.NDArray[Any]) -> None:
    assert measured.note("text_to_image", "emoji", "StableDiffusionPipeline", ours, expected) <= MOST_OFF


@pytest.mark.slow
@QUIET
@pytest.mark.parametrize(("prompt", "guidance"), [("a red apple, 3d style", 3.0), ("cat, flat style", 1.0)])
def test_a_user_of_diffusers_gets_the_same_picture(
    measured: Measured, chain: TextToImage, prompt: str, guidance: float
) -> None:
    noise = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(7))
    expected = theirs(prompt, latents=noise, num_inference_steps=25, guidance_scale=guidance)
    ours = chain.generate(prompt, noise=noise.numpy(), steps=25, guidance=guidance, sampler="ddim")
    assert_same_picture(measured, ours, expected)


@pytest.mark.slow
@QUIET
@pytest.mark.parametrize(
    "scheduler", [DPMSolverMultistepScheduler, EulerAncestralDiscreteScheduler, UniPCMultistepScheduler]
)
def test_a_seed_of_diffusers_gives_its_picture(measured: Measured, chain: TextToImage, scheduler: Any) -> None:
    seeded = torch.Generator("cpu").manual_seed(42)
    expected = theirs("rocket, 3d style", scheduler, generator=seeded, num_inference_steps=20, guidance_scale=2)
    ours = chain.generate("rocket, 3d style", seed=42, rng="torch", steps=20, guidance=2.0, sampler=scheduler.__name__)
    assert_same_picture(measured, ours, expected)


@pytest.mark.slow
@QUIET
def test_the_demonstrations_command_draws_what_its_diffusers_draws(
    measured: Measured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both blocks of docs/diffusers.md, as they stand there."""
    page = (ROOT / "docs" / "diffusers.md").read_text(encoding="utf-8")
    shell, code = (re.findall(rf"^```{name}\n(.*?)^```", page, re.MULTILINE | re.DOTALL) for name in ("sh", "python"))
    python, *arguments, out = shlex.split(shell[0])
    assert (python, out, len(shell), len(code)) == ("python", "apple.png", 1, 1)
    subprocess.run([sys.executable, *arguments, tmp_path / out], cwd=ROOT, check=True, timeout=300)
    monkeypatch.chdir(ROOT)
    names: dict[str, Any] = {}
    exec(compile(code[0], "docs/diffusers.md", "exec"), names)
    with Image.open(tmp_path / out) as ours:
        assert_same_picture(measured, ours, np.asarray(names["picture"]) / 255)


def in_chunks(text: str) -> list[list[int]]:
    """The token numbers of a text as transformers' tokenizer makes them, in chunks marked and padded like a text."""
    words = CLIPTokenizer.from_pretrained(CHECKPOINT / "tokenizer")
    ids = words(text, add_special_tokens=False).input_ids
    room = words.model_max_length - 2
    chunks = [ids[start : start + room] for start in range(0, max(1, len(ids)), room)]
    return [
        [words.bos_token_id, *chunk, words.eos_token_id, *[words.pad_token_id] * (room - len(chunk))]
        for chunk in chunks
    ]


def encoded_by_transformers(chunks: list[list[int]]) -> torch.Tensor:
    """Conditioning [1, chunks * tokens, width], each chunk encoded alone."""
    encoder = CLIPTextModel.from_pretrained(CHECKPOINT / "text_encoder")
    with torch.no_grad():
        return torch.cat([encoder(torch.tensor([ids])).last_hidden_state for ids in chunks], dim=1)


@pytest.mark.slow
@QUIET
def test_a_long_prompt_is_encoded_in_chunks_and_drawn_as_diffusers_draws_it(measured: Measured) -> None:
    folders = open_bundle(BUNDLE, PARTS)
    encoder, denoiser, decoder = (
        TextEncoder(folders[Kind.TEXT_ENCODER], CPU),
        Denoiser(folders[Kind.DENOISER], CPU),
        VaeDecoder(folders[Kind.VAE_DECODER], CPU),
    )
    prompt = "a red apple, 3d style, " * 4 + "shiny, " * 8 + "a green leaf"
    texts = in_chunks(prompt)
    assert len(texts) == 2
    cond = encoded_by_transformers(texts)
    uncond = encoded_by_transformers([*in_chunks("blue"), *in_chunks("")])
    encoded = encoder.encode([prompt, "blue"], max_chunks=2)
    hidden = encoded.arrays["hidden_states"]
    assert encoded.truncated == (False, False)
    np.testing.assert_allclose(hidden, torch.cat([cond, uncond]).numpy(), atol=1e-4)

    request = image_request(prompt=prompt, negative_prompt="blue", steps=20, seed=42, width=128, height=128)
    [job] = denoise_jobs(request, encoded, denoiser.contract)
    ours = Image.fromarray(decoder.decode(denoiser.denoise(job))[0])
    expected = theirs(
        None,
        prompt_embeds=cond,
        negative_prompt_embeds=uncond,
        generator=torch.Generator("cpu").manual_seed(42),
        num_inference_steps=20,
        guidance_scale=request.guidance,
    )
    assert_same_picture(measured, ours, expected)

    [cut] = denoise_jobs(request, encoder.encode(request.texts), denoiser.contract)
    assert denoiser.begin(cut).signature != denoiser.begin(job).signature, "they would share a run"
    assert (denoiser.denoise(cut) != denoiser.denoise(job)).any(), "the second chunk says nothing"


@pytest.mark.slow
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
