"""A denoiser that sees depth, exported and run, against StableDiffusionDepth2ImgPipeline on the same seed."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionDepth2ImgPipeline
from PIL import Image

from components.contract import Kind
from components.folder import read_manifest
from pipeline.errors import RequestError
from pipeline.image_to_image import ImageToImage
from pipeline.tasks.table import tasks_of
from pipeline.text_to_image import TextToImage
from tests.differences import MOST_OFF, Measured
from tests.exporters.conftest import FAMILIES, tiny_pipeline
from tests.exporters.seeing import CPU, PROMPT, assert_a_gate_draws, export
from tests.exporters.test_inpainting import HEIGHT, WIDTH, picture

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

SIZE: dict[str, Any] = {"width": WIDTH, "height": HEIGHT}


def reference() -> StableDiffusionDepth2ImgPipeline:
    plain = tiny_pipeline(FAMILIES["sd2"], in_channels=5)
    pipe = StableDiffusionDepth2ImgPipeline(
        vae=plain.vae,
        text_encoder=plain.text_encoder,
        tokenizer=plain.tokenizer,
        unet=plain.unet,
        scheduler=DDIMScheduler.from_config(plain.scheduler.config),
        # the caller brings the depth
        depth_estimator=None,
        feature_extractor=None,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(reference(), tmp_path_factory.mktemp("bundle"))


def values() -> npt.NDArray[np.uint16]:
    """A map of 16 bits, of another size than the picture's."""
    rng = np.random.default_rng(1)
    return (np.add.outer(np.arange(60), 2 * np.arange(50)) * 100 + rng.integers(0, 9000, (60, 50))).astype(np.uint16)


@pytest.mark.parametrize(
    "options",
    [
        {"strength": 0.8, "guidance": 4.0},
        {"strength": 1.0, "guidance": 1.0},
        {"strength": 0.5, "guidance": 4.0, "eta": 1.0},
    ],
    ids=str,
)
def test_the_picture_is_that_of_diffusers(measured: Measured, bundle: Path, options: dict[str, Any]) -> None:
    pipe = reference()
    strength, guidance, eta = options["strength"], options["guidance"], options.get("eta", 0.0)
    expected = pipe(
        PROMPT,
        picture(),
        torch.from_numpy(values().astype(np.float32))[None],
        strength=strength,
        num_inference_steps=8,
        guidance_scale=guidance,
        eta=eta,
        generator=torch.Generator("cpu").manual_seed(3),
        output_type="np",
    ).images[0]
    ours = ImageToImage.load(bundle, CPU).generate(
        PROMPT,
        picture(),
        depth=Image.fromarray(values()),
        steps=8,
        strength=strength,
        guidance=guidance,
        eta=eta,
        seed=3,
        sampler="ddim",
        **SIZE,
    )
    assert measured.note("depth", "tiny sd2", type(pipe).__name__, ours, expected) <= MOST_OFF


def test_the_depth_changes_what_is_drawn_and_its_scale_does_not(bundle: Path) -> None:
    chain = ImageToImage.load(bundle, CPU)

    def drawn(depth: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        made = chain.generate(PROMPT, picture(), depth=Image.fromarray(depth), steps=4, strength=1.0, **SIZE)
        return np.asarray(made).astype(float)

    near = drawn(values())
    assert np.abs(near - drawn(values()[::-1].copy())).mean() > 1
    assert np.abs(near - drawn(values().astype(np.float32) / 7 - 1000)).max() <= 1


def test_outside_a_mask_the_picture_stays(bundle: Path) -> None:
    assert tasks_of(read_manifest(bundle / Kind.DENOISER).contract) == ("inpainting", "depth", "controlnet", "adapter")
    chain = ImageToImage.load(bundle, CPU)
    kept = Image.new("L", (WIDTH, HEIGHT))
    depth = Image.fromarray(values())
    made = [
        chain.generate(prompt, picture(), kept, depth=depth, steps=2, seed=3, **SIZE) for prompt in (PROMPT, "a boat")
    ]
    assert made[0].tobytes() == made[1].tobytes()


def test_requests_that_do_not_fit_are_refused_by_their_field(bundle: Path) -> None:
    with pytest.raises(RequestError, match="image: is required, as this model changes a picture by its depth"):
        TextToImage.load(bundle, CPU).generate(PROMPT)
    chain = ImageToImage.load(bundle, CPU)
    with pytest.raises(RequestError, match="depth: is required, as this model changes a picture by its depth"):
        chain.generate(PROMPT, picture())
    with pytest.raises(RequestError, match="depth='one value': must be a picture of several"):
        chain.generate(PROMPT, picture(), depth=Image.new("L", (9, 9), 7))


def test_a_gate_can_draw_with_it(bundle: Path) -> None:
    assert_a_gate_draws(bundle)
