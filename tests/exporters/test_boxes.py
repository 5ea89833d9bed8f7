"""Boxes with phrases, exported and run, against StableDiffusionGLIGENPipeline on the same noise."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionGLIGENPipeline
from diffusers.models.attention import GatedSelfAttentionDense

from components.contract import Kind
from components.folder import ComponentFolder, read_manifest
from components.messages import FloatArray
from exporters.bundle import BundleOptions, export_bundle
from exporters.errors import ExportError
from pipeline.denoiser import Denoiser
from pipeline.errors import RequestError
from pipeline.jobs import denoise_jobs
from pipeline.request import RequestFields
from pipeline.text_encoder import TextEncoder
from pipeline.text_to_image import TextToImage
from tests.differences import MOST_OFF, Measured
from tests.exporters.conftest import FAMILIES, tiny_pipeline
from tests.exporters.seeing import CPU, assert_a_gate_draws, export

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

# of several lengths, so that diffusers pads some
BOXES: list[dict[str, Any]] = [
    {"phrase": "a red caf\u00e9", "box": [0.0, 0.1, 0.5, 0.6]},
    {"phrase": "re", "box": [0.4, 0.25, 1, 1]},
    {"phrase": "a bed and a bread", "box": [0.1, 0.2, 0.3, 0.9]},
]
PROMPT, NEGATIVE, STEPS = "a red caf\u00e9", "a bed", 7


def boxed() -> StableDiffusionGLIGENPipeline:
    """A tiny pipeline whose gates are open, and whose places for boxes that are not there are no zeros."""
    plain = tiny_pipeline(FAMILIES["sd1"], attention_type="gated")
    plain.scheduler = DDIMScheduler.from_config(plain.scheduler.config, clip_sample=False)
    torch.manual_seed(3)
    for layer in plain.unet.modules():
        if isinstance(layer, GatedSelfAttentionDense):
            layer.alpha_attn.data.fill_(1.5)
            layer.alpha_dense.data.fill_(0.8)
            # as large as the rest, else random boxes change nothing to be seen
            layer.linear.weight.data.mul_(8)
    for feature in (plain.unet.position_net.null_positive_feature, plain.unet.position_net.null_position_feature):
        feature.data.normal_()
    parts = {name: part for name, part in plain.components.items() if name != "image_encoder"}
    return StableDiffusionGLIGENPipeline(**parts, requires_safety_checker=False)


@pytest.fixture(scope="module")
def pipe() -> Any:
    pipe = boxed()
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(boxed(), tmp_path_factory.mktemp("boxes"))


@pytest.fixture(scope="module")
def chain(bundle: Path) -> TextToImage:
    return TextToImage.load(bundle, CPU)


@pytest.fixture(scope="module")
def noise() -> torch.Tensor:
    return torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(5))


def theirs(pipe: Any, noise: torch.Tensor, boxes: list[dict[str, Any]], beta: float, guidance: float) -> npt.NDArray[Any]:
    drawn: npt.NDArray[Any] = pipe(
        PROMPT,
        negative_prompt=NEGATIVE,
        latents=noise,
        gligen_phrases=[one["phrase"] for one in boxes],
        gligen_boxes=[one["box"] for one in boxes],
        gligen_scheduled_sampling_beta=beta,
        num_inference_steps=STEPS,
        guidance_scale=guidance,
        output_type="np",
    ).images[0]
    return drawn


def test_x(pipe, chain, noise, measured):
    for beta in (0, 0.3, 1.0):
        for g in (1.0, 4.0):
            e = theirs(pipe, noise, BOXES, beta, g)
            n = theirs(pipe, noise, BOXES, 0.0, g)
            print(beta, g, np.abs(e-n).mean()*255, e.std()*255)
            ours = chain.generate(PROMPT, negative_prompt=NEGATIVE, noise=noise.numpy(), steps=STEPS, guidance=g, boxes=BOXES, boxes_end=beta)
            print(measured.note("boxes", "tiny", "x", ours, e))
