"""A denoiser that enlarges by latents, exported and run, against StableDiffusionLatentUpscalePipeline."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import EulerDiscreteScheduler, StableDiffusionLatentUpscalePipeline
from PIL import Image

from components.contract import Kind
from components.folder import read_manifest
from components.messages import FloatArray
from pipeline.errors import RequestError
from pipeline.image_to_image import ImageToImage
from pipeline.super_resolution import SuperResolution
from pipeline.text_to_image import TextToImage
from tests.differences import MOST_OFF, Measured
from tests.exporters.conftest import FAMILIES, tiny_pipeline
from tests.exporters.seeing import CPU, PROMPT, assert_a_gate_draws, export
from tests.exporters.test_upscaling import small

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def reference() -> StableDiffusionLatentUpscalePipeline:
    # of the fewest blocks that diffusers can build of this kind
    plain = tiny_pipeline(
        FAMILIES["sd1"],
        in_channels=8,
        out_channels=5,
        block_out_channels=(32, 64, 64),
        down_block_types=("KDownBlock2D", "KCrossAttnDownBlock2D", "KCrossAttnDownBlock2D"),
        up_block_types=("KCrossAttnUpBlock2D", "KCrossAttnUpBlock2D", "KUpBlock2D"),
        mid_block_type=None,
        act_fn="gelu",
        attention_head_dim=8,
        conv_in_kernel=1,
        conv_out_kernel=1,
        norm_num_groups=None,
        resnet_time_scale_shift="scale_shift",
        time_cond_proj_dim=128 + 16,
        time_embedding_type="fourier",
        timestep_post_act="gelu",
    )
    scheduler = EulerDiscreteScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="original_sample",
        interpolation_type="log_linear",
    )
    pipe = StableDiffusionLatentUpscalePipeline(
        vae=plain.vae,
        text_encoder=plain.text_encoder,
        tokenizer=plain.tokenizer,
        unet=plain.unet,
        scheduler=scheduler,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(reference(), tmp_path_factory.mktemp("bundle"))


def latents(height: int = 12, width: int = 10) -> FloatArray:
    return np.random.default_rng(0).standard_normal((1, 4, height, width)).astype(np.float32)


@pytest.mark.parametrize("guidance", [4.0, 1.0])
@pytest.mark.parametrize("given", [small(), latents()], ids=["picture", "latents"])
def test_the_picture_is_that_of_diffusers(measured: Measured, bundle: Path, given: Any, guidance: float) -> None:
    pipe = reference()
    expected = pipe(
        PROMPT,
        given if isinstance(given, Image.Image) else torch.from_numpy(given),
        num_inference_steps=6,
        guidance_scale=guidance,
        negative_prompt="blue",
        generator=torch.Generator("cpu").manual_seed(3),
        output_type="np",
    ).images[0]
    ours = SuperResolution.load(bundle, CPU).generate(
        PROMPT, given, negative_prompt="blue", steps=6, guidance=guidance, seed=3, sampler="euler"
    )
    # small pictures are 20 by 24, and the tiny VAE has a factor of 2
    assert ours.size == (40, 48)
    assert measured.note("latent_super_resolution", "tiny sd1", type(pipe).__name__, ours, expected) <= MOST_OFF


def test_the_small_picture_and_the_prompt_are_seen(bundle: Path) -> None:
    chain = SuperResolution.load(bundle, CPU)

    def drawn(prompt: str, of: FloatArray) -> Any:
        return np.asarray(chain.generate(prompt, of, steps=3, guidance=1, sampler="euler")).astype(float)

    near = drawn(PROMPT, latents())
    assert np.abs(near - drawn(PROMPT, -latents())).mean() > 1
    assert np.abs(near - drawn("a blue boat", latents())).max() > 0


def test_requests_that_do_not_fit_are_refused_by_their_field(bundle: Path) -> None:
    contract = read_manifest(bundle / Kind.DENOISER).contract
    assert (contract.enlarges, contract.sees_pixels, contract.enlargement) == (True, False, 2)
    with pytest.raises(RequestError, match="image: is required, as this model enlarges a picture"):
        TextToImage.load(bundle, CPU).generate(PROMPT)
    with pytest.raises(RequestError, match="image: is drawn larger by this model"):
        ImageToImage.load(bundle, CPU).generate(PROMPT, small())
    chain = SuperResolution.load(bundle, CPU)
    with pytest.raises(RequestError, match="noise_level=20: must be left out"):
        chain.generate(PROMPT, small(), noise_level=20)
    refused: list[tuple[Any, str]] = [
        (latents().astype(np.float64), "image='float64"),
        (latents()[:, :3], r"must be float32 \[1, 4, height, width\]"),
        (latents() * np.float32(np.nan), "not finite"),
        (latents(13, 10), r"must be of \[12, 10\] for this size"),
    ]
    for wrong, said in refused:
        with pytest.raises(RequestError, match=said):
            chain.generate(PROMPT, wrong)


def test_a_gate_can_draw_with_it(bundle: Path) -> None:
    assert_a_gate_draws(bundle)
