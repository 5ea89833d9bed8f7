"""A denoiser that edits by instruction, exported and run, against StableDiffusionInstructPix2PixPipeline."""

from pathlib import Path

import pytest
import torch
from diffusers import EulerDiscreteScheduler, StableDiffusionInstructPix2PixPipeline

from components.contract import Kind
from components.folder import read_manifest
from pipeline.errors import RequestError
from pipeline.image_to_image import ImageToImage
from pipeline.text_to_image import TextToImage
from tests.differences import MOST_OFF, Measured
from tests.exporters.conftest import FAMILIES, tiny_pipeline
from tests.exporters.seeing import CPU, PROMPT, assert_a_gate_draws, export
from tests.exporters.test_inpainting import HEIGHT, WIDTH, mask, picture

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def reference() -> StableDiffusionInstructPix2PixPipeline:
    plain = tiny_pipeline(FAMILIES["sd1"], in_channels=8)
    parts = {**plain.components, "scheduler": EulerDiscreteScheduler.from_config(plain.scheduler.config)}
    return StableDiffusionInstructPix2PixPipeline(**parts, requires_safety_checker=False)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(reference(), tmp_path_factory.mktemp("bundle"))


@pytest.mark.parametrize(("guidance", "image_guidance"), [(7.5, 1.5), (3.0, 1.0)])
def test_the_picture_is_that_of_diffusers(
    measured: Measured, bundle: Path, guidance: float, image_guidance: float
) -> None:
    pipe = reference()
    pipe.set_progress_bar_config(disable=True)
    expected = pipe(
        PROMPT,
        picture(),
        negative_prompt="blue",
        num_inference_steps=6,
        guidance_scale=guidance,
        image_guidance_scale=image_guidance,
        generator=torch.Generator("cpu").manual_seed(3),
        output_type="np",
    ).images[0]
    ours = ImageToImage.load(bundle, CPU).generate(
        PROMPT,
        picture(),
        negative_prompt="blue",
        steps=6,
        guidance=guidance,
        image_guidance=image_guidance,
        seed=3,
        sampler="euler",
        width=WIDTH,
        height=HEIGHT,
    )
    assert measured.note("instruction", "tiny sd1", type(pipe).__name__, ours, expected) <= MOST_OFF


def test_requests_that_do_not_fit_are_refused_by_their_field(bundle: Path) -> None:
    assert read_manifest(bundle / Kind.DENOISER).contract.image_guidance == 1.5
    with pytest.raises(RequestError, match="image: is required, as this model edits a picture by instruction"):
        TextToImage.load(bundle, CPU).generate(PROMPT)
    chain = ImageToImage.load(bundle, CPU)
    with pytest.raises(RequestError, match="mask: must be left out"):
        chain.generate(PROMPT, picture(), mask())
    with pytest.raises(RequestError, match="strength=0.5: must be 1 or left out"):
        chain.generate(PROMPT, picture(), strength=0.5)
    with pytest.raises(RequestError, match="image_guidance=-1: must be a number between 0 and"):
        chain.generate(PROMPT, picture(), image_guidance=-1)


def test_a_gate_can_draw_with_it(bundle: Path) -> None:
    assert_a_gate_draws(bundle)
