"""Models of few steps, exported and run, against the pipelines of diffusers on the same seed: LCM and Turbo."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    EulerAncestralDiscreteScheduler,
    LatentConsistencyModelPipeline,
    LCMScheduler,
    StableDiffusionPipeline,
)

from components.contract import Kind
from components.folder import read_manifest
from pipeline.text_to_image import TextToImage
from tests.differences import MOST_OFF, Measured
from tests.exporters.conftest import FAMILIES, tiny_pipeline
from tests.exporters.seeing import CPU, PROMPT, export

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

SIZE: dict[str, Any] = {"width": 40, "height": 48}


def consistency_model() -> LatentConsistencyModelPipeline:
    plain = tiny_pipeline(FAMILIES["sd1"], time_cond_proj_dim=6)
    parts = {**plain.components, "scheduler": LCMScheduler.from_config(plain.scheduler.config)}
    return LatentConsistencyModelPipeline(**parts, requires_safety_checker=False)


def turbo() -> StableDiffusionPipeline:
    """As SD-Turbo: Euler ancestral on trailing timesteps."""
    pipe = tiny_pipeline(FAMILIES["sd2"])
    config = {**pipe.scheduler.config, "timestep_spacing": "trailing", "prediction_type": "epsilon"}
    pipe.scheduler = EulerAncestralDiscreteScheduler.from_config(config)
    return pipe


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = (("lcm", consistency_model(), 8.5), ("turbo", turbo(), 1.0))
    return {name: export(pipe, tmp_path_factory.mktemp(name), guidance) for name, pipe, guidance in made}


def drawn(pipe: Any, **options: Any) -> Any:
    pipe.set_progress_bar_config(disable=True)
    return pipe(PROMPT, generator=torch.Generator("cpu").manual_seed(3), output_type="np", **SIZE, **options).images[0]


@pytest.mark.parametrize("steps", [1, 4])
@pytest.mark.parametrize("guidance", [8.5, 1.0])
def test_a_consistency_model_has_guidance_within(
    measured: Measured, exported: dict[str, Path], steps: int, guidance: float
) -> None:
    expected = drawn(consistency_model(), num_inference_steps=steps, guidance_scale=guidance)
    chain = TextToImage.load(exported["lcm"], CPU)
    ours = chain.generate(PROMPT, steps=steps, guidance=guidance, seed=3, sampler="lcm", **SIZE)
    reference = "LatentConsistencyModelPipeline"
    assert measured.note("text_to_image", "tiny sd1, consistency model", reference, ours, expected) <= MOST_OFF


def test_guidance_within_changes_the_picture_and_takes_no_second_row(exported: dict[str, Path]) -> None:
    chain = TextToImage.load(exported["lcm"], CPU)
    mild, strong = (
        np.asarray(chain.generate(PROMPT, steps=2, guidance=guidance, sampler="lcm", **SIZE))
        for guidance in (1.0, 20.0)
    )
    assert (mild != strong).any()
    contract = read_manifest(exported["lcm"] / Kind.DENOISER).contract
    assert (contract.embeds_guidance, contract.guidance) == (True, 8.5)


@pytest.mark.parametrize("steps", [1, 3])
def test_a_turbo_model_is_drawn_without_guidance_unless_asked(
    measured: Measured, exported: dict[str, Path], steps: int
) -> None:
    expected = drawn(turbo(), num_inference_steps=steps, guidance_scale=0.0)
    chain = TextToImage.load(exported["turbo"], CPU)
    ours = chain.generate(PROMPT, steps=steps, seed=3, sampler="euler_ancestral", **SIZE)
    assert measured.note("text_to_image", "tiny turbo", "StableDiffusionPipeline", ours, expected) <= MOST_OFF
