"""A denoiser that enlarges, exported and run, against StableDiffusionUpscalePipeline on the same seed."""

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, StableDiffusionUpscalePipeline
from PIL import Image

from components.contract import Kind
from components.folder import read_manifest
from pipeline.errors import RequestError
from pipeline.super_resolution import SuperResolution
from pipeline.text_to_image import TextToImage
from tests.differences import MOST_OFF, Measured
from tests.exporters.conftest import FAMILIES, tiny_pipeline
from tests.exporters.seeing import CPU, PROMPT, assert_a_gate_draws, export

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def reference() -> StableDiffusionUpscalePipeline:
    plain = tiny_pipeline(FAMILIES["sd2"], in_channels=7, num_class_embeds=400)
    # the pipeline insists on it
    plain.vae.register_to_config(scaling_factor=0.08333)
    pipe = StableDiffusionUpscalePipeline(
        vae=plain.vae,
        text_encoder=plain.text_encoder,
        tokenizer=plain.tokenizer,
        unet=plain.unet,
        low_res_scheduler=DDPMScheduler(beta_start=0.0001, beta_end=0.02, beta_schedule="scaled_linear"),
        scheduler=DDIMScheduler.from_config(plain.scheduler.config),
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(reference(), tmp_path_factory.mktemp("bundle"))


def small(width: int = 20, height: int = 24) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))


@pytest.mark.parametrize(("noise_level", "guidance", "eta"), [(20, 4.0, 0.0), (0, 1.0, 0.0), (350, 4.0, 1.0)])
def test_the_picture_is_that_of_diffusers(
    measured: Measured, bundle: Path, noise_level: int, guidance: float, eta: float
) -> None:
    pipe = reference()
    expected = pipe(
        PROMPT,
        small(),
        num_inference_steps=6,
        guidance_scale=guidance,
        noise_level=noise_level,
        eta=eta,
        generator=torch.Generator("cpu").manual_seed(3),
        output_type="np",
    ).images[0]
    ours = SuperResolution.load(bundle, CPU).generate(
        PROMPT, small(), steps=6, guidance=guidance, noise_level=noise_level, eta=eta, seed=3, sampler="ddim"
    )
    # the tiny VAE has a factor of 2
    assert ours.size == (40, 48)
    assert measured.note("super_resolution", "tiny sd2", type(pipe).__name__, ours, expected) <= MOST_OFF


def test_requests_that_do_not_fit_are_refused_by_their_field(bundle: Path) -> None:
    contract = read_manifest(bundle / Kind.DENOISER).contract
    assert (contract.noise_levels, contract.enlarges) == (351, True)
    with pytest.raises(RequestError, match="image: is required, as this model enlarges a picture"):
        TextToImage.load(bundle, CPU).generate(PROMPT)
    chain = SuperResolution.load(bundle, CPU)
    with pytest.raises(RequestError, match="noise_level=351: must be a whole number between 0 and 350"):
        chain.generate(PROMPT, small(), noise_level=351)


def test_a_gate_can_draw_with_it(bundle: Path) -> None:
    assert_a_gate_draws(bundle)
