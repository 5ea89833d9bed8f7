"""Scheduler configurations as contracts, and the walks of those contracts beside diffusers' own."""

import json
import math
from itertools import product
from typing import Any

import diffusers
import numpy as np
import pytest
from numpy.testing import assert_allclose

from components.contract import (
    Conditioning,
    Contract,
    DynamicShift,
    FlowSchedule,
    Kind,
    LatentSpace,
    NoiseSchedule,
    TensorSpec,
)
from exporters.errors import ExportError
from exporters.scheduler import read_schedule
from pipeline.trajectories import Trajectories

# diffusers makes arrays of tensors in a way that NumPy 2 warns about
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:__array_wrap__ must accept context:DeprecationWarning"),
]

BETAS: dict[str, Any] = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
LATENT_SIZE = (64, 96)
IMAGE_TOKENS = 32 * 48

# what a published checkpoint may hold
CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "euler": ("EulerDiscreteScheduler", {}),
    "euler karras": ("EulerDiscreteScheduler", {"use_karras_sigmas": True, "timestep_spacing": "leading"}),
    "euler exponential": ("EulerDiscreteScheduler", {"use_exponential_sigmas": True, "timestep_spacing": "trailing"}),
    "euler beta": ("EulerDiscreteScheduler", {"use_beta_sigmas": True}),
    "euler sigma_min": ("EulerDiscreteScheduler", {"final_sigmas_type": "sigma_min", "timestep_spacing": "trailing"}),
    "euler log_linear": (
        "EulerDiscreteScheduler",
        {"interpolation_type": "log_linear", "prediction_type": "original_sample"},
    ),
    "dpm karras": ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True, "prediction_type": "v_prediction"}),
    "dpm sigma_min": ("DPMSolverMultistepScheduler", {"final_sigmas_type": "sigma_min"}),
    "dpm sde": ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++", "use_karras_sigmas": True}),
    "unipc exponential": ("UniPCMultistepScheduler", {"use_exponential_sigmas": True}),
    "deis karras": ("DEISMultistepScheduler", {"use_karras_sigmas": True}),
    "heun karras": ("HeunDiscreteScheduler", {"use_karras_sigmas": True}),
    "lms karras": ("LMSDiscreteScheduler", {"use_karras_sigmas": True}),
    "ddim": ("DDIMScheduler", {"timestep_spacing": "trailing", "set_alpha_to_one": False}),
    "ddim zero snr": ("DDIMScheduler", {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction"}),
    # what DDIM's configuration keeps of the scheduler that it was made from
    "ddim after karras": ("DDIMScheduler", {"use_karras_sigmas": True, "final_sigmas_type": "sigma_min"}),
    "pndm": ("PNDMScheduler", {"skip_prk_steps": True}),
}
FLOWS: dict[str, tuple[str, dict[str, Any]]] = {
    "flow": ("FlowMatchEulerDiscreteScheduler", {}),
    "flow shift": ("FlowMatchEulerDiscreteScheduler", {"shift": 3.0}),
    "flow shift karras": ("FlowMatchEulerDiscreteScheduler", {"shift": 3.0, "use_karras_sigmas": True}),
    "flow dynamic": ("FlowMatchEulerDiscreteScheduler", {"shift": 3.0, "use_dynamic_shifting": True}),
    "flow dynamic linear": (
        "FlowMatchEulerDiscreteScheduler",
        {"use_dynamic_shifting": True, "time_shift_type": "linear", "max_shift": 0.9, "use_beta_sigmas": True},
    ),
    "heun": ("FlowMatchHeunDiscreteScheduler", {"shift": 2.0}),
}
SAMPLERS = {
    "ddim": "DDIMScheduler",
    "euler": "EulerDiscreteScheduler",
    "euler_ancestral": "EulerAncestralDiscreteScheduler",
    "lms": "LMSDiscreteScheduler",
    "dpmpp_2m": "DPMSolverMultistepScheduler",
    "unipc": "UniPCMultistepScheduler",
    "deis": "DEISMultistepScheduler",
}


def config_of(name: str, changes: dict[str, Any]) -> dict[str, Any]:
    """The content of the file that diffusers writes."""
    betas = {} if name.startswith("Flow") else BETAS
    scheduler = getattr(diffusers, name).from_config({**betas, **changes})
    content: dict[str, Any] = json.loads(scheduler.to_json_string())
    return content


def contract_of(schedule: NoiseSchedule | FlowSchedule) -> Contract:
    latents = ("batch", 16, "height", "width")
    return Contract(
        kind=Kind.DENOISER,
        inputs=(TensorSpec(name="latents", dtype="float32", shape=latents),),
        outputs=(TensorSpec(name="prediction", dtype="float32", shape=latents),),
        latent_space=LatentSpace(id="test", channels=16, downscale=8, scaling_factor=1.0),
        conditioning=(Conditioning(name="text", width=8, tokens=8),),
        noise_schedule=schedule if isinstance(schedule, NoiseSchedule) else None,
        flow_schedule=schedule if isinstance(schedule, FlowSchedule) else None,
        latent_size=(16, 16),
    )


@pytest.mark.parametrize("steps", [2, 4, 25])
@pytest.mark.parametrize(
    ("case", "sampler"),
    # the classes of these two know no betas of zero terminal SNR: they would walk on others than the denoiser learned
    [each for each in product(CONFIGS, SAMPLERS) if each not in (("ddim zero snr", "lms"), ("ddim zero snr", "deis"))],
)
def test_a_walk_is_that_of_diffusers_from_the_same_configuration(case: str, sampler: str, steps: int) -> None:
    config = config_of(*CONFIGS[case])
    # what a configuration says of the algorithm, the sampler's name says here
    said = {field: value for field, value in config.items() if field not in ("algorithm_type", "solver_type")}
    scheduler = getattr(diffusers, SAMPLERS[sampler]).from_config(said)
    scheduler.set_timesteps(steps)
    walk = Trajectories.of(contract_of(read_schedule(config))).lay_out(sampler, steps, "default")
    assert_allclose(
        [step.timestep for step in walk.steps], np.asarray(scheduler.timesteps, dtype=np.float64), rtol=1e-5
    )
    if hasattr(scheduler, "sigmas"):
        sigmas = [step.sigma for step in walk.steps] + [walk.steps[-1].sigma_next]
        # of log_linear diffusers has one more, which no step goes to
        assert_allclose(sigmas, scheduler.sigmas.numpy()[: steps + 1], rtol=1e-5)


@pytest.mark.parametrize("steps", [1, 4, 25])
@pytest.mark.parametrize("case", FLOWS)
def test_a_flow_is_that_of_diffusers_from_the_same_configuration(case: str, steps: int) -> None:
    config = config_of(*FLOWS[case])
    scheduler = getattr(diffusers, config["_class_name"]).from_config(config)
    more: dict[str, Any] = {}
    if config.get("use_dynamic_shifting"):
        slope = (config["max_shift"] - config["base_shift"]) / (4096 - 256)
        more = {"mu": IMAGE_TOKENS * slope + config["base_shift"] - slope * 256}
    scheduler.set_timesteps(steps, **more)
    trajectories = Trajectories.of(contract_of(read_schedule(config)))
    walk = trajectories.lay_out("flow_euler", steps, "default", LATENT_SIZE)
    # Heun tells the second timestep of each step too
    timesteps = np.unique(np.asarray(scheduler.timesteps, dtype=np.float64))[::-1]
    assert_allclose([step.timestep for step in walk.steps], timesteps, rtol=1e-5)
    assert_allclose([step.sigma for step in walk.steps], np.unique(scheduler.sigmas.numpy())[:0:-1], rtol=1e-5)
    assert (walk.flow, trajectories.prediction.name, walk.steps[-1].sigma_next) == (True, "flow", 0)


def test_every_field_of_noise_is_read() -> None:
    changes = {"use_karras_sigmas": True, "final_sigmas_type": "sigma_min", "rescale_betas_zero_snr": True}
    config = config_of("EulerDiscreteScheduler", {**changes, "prediction_type": "v_prediction"})
    assert read_schedule(config) == NoiseSchedule(
        prediction_type="v_prediction",
        num_train_timesteps=1000,
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        rescale_betas_zero_snr=True,
        timestep_spacing="linspace",
        steps_offset=1,
        final_sigmas_type="sigma_min",
        sigma_schedule="karras",
    )


def test_every_field_of_a_flow_is_read() -> None:
    fields = {"base_shift": 0.4, "max_shift": 1.2, "base_image_seq_len": 128, "max_image_seq_len": 1024}
    changes = {**fields, "shift": 3.0, "use_dynamic_shifting": True, "time_shift_type": "linear"}
    config = config_of("FlowMatchEulerDiscreteScheduler", {**changes, "use_exponential_sigmas": True})
    dynamic = DynamicShift(
        base_shift=0.4, max_shift=1.2, base_image_seq_len=128, max_image_seq_len=1024, time_shift_type="linear"
    )
    assert read_schedule(config) == FlowSchedule(
        num_train_timesteps=1000, shift=3.0, dynamic=dynamic, sigma_schedule="exponential"
    )


def test_a_spacing_that_the_file_leaves_out_stays_the_samplers_own() -> None:
    schedule = read_schedule({"_class_name": "EulerDiscreteScheduler", **BETAS})
    assert isinstance(schedule, NoiseSchedule)
    assert schedule.timestep_spacing is None


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        (
            "VeryOddScheduler",
            {},
            "scheduler: is VeryOddScheduler; one of DDIMScheduler, .*, FlowMatchHeunDiscreteSched",
        ),
        ("DDIMScheduler", {"trained_betas": [0.1, 0.2]}, r"trained_betas=\[0.1, 0.2\] is not supported"),
        ("DDIMScheduler", {"thresholding": True}, "thresholding=True is not supported"),
        ("EulerDiscreteScheduler", {"sigma_min": 0.02}, "sigma_min=0.02 is not supported"),
        ("EulerDiscreteScheduler", {"timestep_type": "continuous"}, "timestep_type='continuous' is not supported"),
        ("DPMSolverMultistepScheduler", {"use_flow_sigmas": True}, "use_flow_sigmas=True is not supported"),
        ("DPMSolverMultistepScheduler", {"use_lu_lambdas": True}, "use_lu_lambdas=True is not supported"),
        ("DPMSolverMultistepScheduler", {"euler_at_final": True}, "euler_at_final=True is not supported"),
        ("DPMSolverMultistepScheduler", {"lambda_min_clipped": -5.1}, "lambda_min_clipped=-5.1 is not supported"),
        ("UniPCMultistepScheduler", {"use_dynamic_shifting": True}, "use_dynamic_shifting=True is not supported where"),
        ("FlowMatchEulerDiscreteScheduler", {"shift_terminal": 0.1}, "shift_terminal=0.1 is not supported"),
        ("FlowMatchEulerDiscreteScheduler", {"invert_sigmas": True}, "invert_sigmas=True is not supported"),
        ("FlowMatchEulerDiscreteScheduler", {"stochastic_sampling": True}, "stochastic_sampling=True is not supported"),
        ("FlowMatchEulerDiscreteScheduler", {"shift": math.inf}, "scheduler: shift=inf: "),
        (
            "FlowMatchEulerDiscreteScheduler",
            {"use_dynamic_shifting": True, "max_image_seq_len": 256},
            "scheduler: .*max_image_seq_len=256: must be more than base_image_seq_len=256",
        ),
        ("EulerDiscreteScheduler", {"final_sigmas_type": "odd"}, "diffusers refuses .*|final_sigmas_type='odd'"),
        ("DDIMScheduler", {"beta_schedule": "sigmoid"}, "scheduler: diffusers refuses .*sigmoid is not implemented"),
        ("DDIMScheduler", {"prediction_type": "odd"}, "prediction_type='odd'"),
        (
            "EulerDiscreteScheduler",
            {"use_karras_sigmas": True, "use_beta_sigmas": True},
            "diffusers refuses its configuration: Only one of",
        ),
        (
            "DDIMScheduler",
            {"use_karras_sigmas": True, "use_beta_sigmas": True},
            "use_karras_sigmas and use_beta_sigmas: only one of them can be true",
        ),
    ],
)
def test_what_no_contract_can_say_is_refused_by_name_and_value(name: str, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ExportError, match=words):
        read_schedule({"_class_name": name, **({} if name.startswith("Flow") else BETAS), **changes})
