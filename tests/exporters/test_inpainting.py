"""A denoiser that sees the mask, exported and run, against StableDiffusionInpaintPipeline on the same seed."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionInpaintPipeline
from PIL import Image, ImageDraw

from components.contract import Kind
from components.folder import read_manifest
from pipeline.errors import RequestError
from pipeline.image_to_image import ImageToImage
from pipeline.text_to_image import TextToImage
from tests.differences import MOST_OFF, Measured
from tests.exporters.conftest import FAMILIES, tiny_pipeline
from tests.exporters.seeing import CPU, PROMPT, assert_a_gate_draws, export

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

WIDTH, HEIGHT = 40, 48


def reference() -> StableDiffusionInpaintPipeline:
    plain = tiny_pipeline(FAMILIES["sd1"], in_channels=9)
    pipe = StableDiffusionInpaintPipeline(**plain.components, requires_safety_checker=False)
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config, clip_sample=False)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(reference(), tmp_path_factory.mktemp("bundle"))


def picture() -> Image.Image:
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 256, (6, 5, 3), np.uint8)).resize((WIDTH, HEIGHT))


def mask() -> Image.Image:
    drawn = Image.new("L", (WIDTH, HEIGHT))
    ImageDraw.Draw(drawn).ellipse((6, 9, 31, 40), fill=255)
    return drawn


@pytest.mark.parametrize(
    "options",
    [
        {"strength": 1.0, "guidance": 4.0},
        {"strength": 1.0, "guidance": 1.0},
        {"strength": 0.6, "guidance": 4.0},
        # fresh noise comes after what the masked picture's latents have taken
        {"strength": 1.0, "guidance": 4.0, "eta": 1.0},
        {"strength": 0.6, "guidance": 4.0, "eta": 1.0},
    ],
    ids=str,
)
def test_the_picture_is_that_of_diffusers(measured: Measured, bundle: Path, options: dict[str, Any]) -> None:
    strength, guidance, eta = options["strength"], options["guidance"], options.get("eta", 0.0)
    expected = reference()(
        PROMPT,
        picture(),
        mask(),
        height=HEIGHT,
        width=WIDTH,
        num_inference_steps=8,
        strength=strength,
        guidance_scale=guidance,
        eta=eta,
        generator=torch.Generator("cpu").manual_seed(3),
        output_type="np",
    ).images[0]
    ours = ImageToImage.load(bundle, CPU).generate(
        PROMPT,
        picture(),
        mask(),
        steps=8,
        strength=strength,
        guidance=guidance,
        eta=eta,
        seed=3,
        sampler="ddim",
        width=WIDTH,
        height=HEIGHT,
    )
    name = type(reference()).__name__
    assert measured.note("inpainting", "tiny sd1, sees the mask", name, ours, expected) <= MOST_OFF


@pytest.mark.parametrize("padding", [None, 4])
def test_blur_and_crop_are_those_of_diffusers(measured: Measured, bundle: Path, padding: int | None) -> None:
    pipe = reference()
    image, small = picture().resize((70, 56)), mask().resize((28, 30))
    placed = Image.new("L", image.size)
    placed.paste(small, (30, 12))
    expected = pipe(
        PROMPT,
        image,
        pipe.mask_processor.blur(placed, 3),
        height=HEIGHT,
        width=WIDTH,
        padding_mask_crop=padding,
        num_inference_steps=4,
        strength=1.0,
        guidance_scale=4.0,
        generator=torch.Generator("cpu").manual_seed(3),
    ).images[0]
    options: dict[str, Any] = {"steps": 4, "guidance": 4.0, "seed": 3, "sampler": "ddim"}
    options |= {} if padding is None else {"padding_mask_crop": padding}
    ours = ImageToImage.load(bundle, CPU).generate(
        PROMPT, image, placed, mask_blur=3, width=WIDTH, height=HEIGHT, **options
    )
    theirs = np.asarray(expected, np.float64) / 255
    name = type(pipe).__name__
    assert measured.note("inpainting", "tiny sd1, sees the mask", name, ours, theirs) <= MOST_OFF


def test_the_contract_says_what_it_looks_at(bundle: Path) -> None:
    contract = read_manifest(bundle / Kind.DENOISER).contract
    assert contract.sees_mask
    assert [(part.source, part.channels) for part in contract.image_channels] == [("mask", 1), ("masked_image", 4)]


def test_a_request_without_picture_or_mask_is_refused_by_its_field(bundle: Path) -> None:
    with pytest.raises(RequestError, match="image: is required, as this model draws a part of a picture anew"):
        TextToImage.load(bundle, CPU).generate(PROMPT)
    with pytest.raises(RequestError, match="mask: is required"):
        ImageToImage.load(bundle, CPU).generate(PROMPT, picture())


def test_a_gate_can_draw_with_it(bundle: Path) -> None:
    assert_a_gate_draws(bundle)
