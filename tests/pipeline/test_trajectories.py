"""A contract's schedules as walks; tests/exporters/test_scheduler.py holds them against diffusers."""

import math
from typing import Any

import pytest

from components.contract import Contract, DynamicShift, FlowSchedule, Kind, NoiseSchedule
from components.errors import ComponentError
from diffusion.samplers import SAMPLERS
from diffusion.trajectory import Trajectory
from pipeline.errors import RequestError
from pipeline.trajectories import Trajectories
from tests.pipeline.conftest import CONTRACTS, SCHEDULE

DENOISER = CONTRACTS[Kind.DENOISER]


def _noise(**changes: Any) -> Trajectories:
    return Trajectories.of(DENOISER.model_copy(update={"noise_schedule": SCHEDULE.model_copy(update=changes)}))


def _flow(**fields: Any) -> Contract:
    flow = FlowSchedule(num_train_timesteps=1000, **fields)
    return DENOISER.model_copy(update={"noise_schedule": None, "flow_schedule": flow})


def _sigmas(trajectory: Trajectory) -> list[float]:
    return [step.sigma for step in trajectory.steps]


def test_default_is_the_checkpoints_own_and_a_name_goes_before_it() -> None:
    plain, own = _noise(), _noise(sigma_schedule="karras")
    for sampler in ("euler", "dpmpp_2m", "dpmpp_2s_ancestral"):
        assert own.lay_out(sampler, 10, "default") == plain.lay_out(sampler, 10, "karras")
        assert own.lay_out(sampler, 10, "exponential") == plain.lay_out(sampler, 10, "exponential")


@pytest.mark.parametrize("sampler", ["ddim", "pndm", "lcm", "euler_ancestral"])
def test_a_sampler_whose_scheduler_reads_no_sigma_schedule_keeps_its_own(sampler: str) -> None:
    assert _noise(sigma_schedule="karras").lay_out(sampler, 10, "default") == _noise().lay_out(sampler, 10, "default")


@pytest.mark.parametrize("sampler", sorted(name for name, row in SAMPLERS.items() if not row.flow))
def test_every_sampler_walks_a_checkpoint_of_karras_sigmas(sampler: str) -> None:
    assert len(_noise(sigma_schedule="karras").lay_out(sampler, 5, "default").steps) >= 5


def test_the_final_sigma_is_the_checkpoints() -> None:
    assert _noise().lay_out("euler", 5, "default").steps[-1].sigma_next == 0
    smallest = _noise(final_sigmas_type="sigma_min")
    smallest_trained = math.sqrt(0.00085 / (1 - 0.00085))
    assert smallest.lay_out("euler", 5, "default").steps[-1].sigma_next == pytest.approx(smallest_trained, rel=1e-4)


def test_strength_leaves_the_last_steps() -> None:
    whole = _noise().lay_out("heun", 10, "karras")
    assert _noise().lay_out("heun", 10, "karras", strength=0.35).steps == whole.steps[-3:]
    assert _noise().lay_out("heun", 10, "karras", strength=1.0) == whole
    with pytest.raises(RequestError, match="strength=0.05: must be at least 1/10 for 10 steps") as caught:
        _noise().lay_out("heun", 10, "karras", strength=0.05)
    assert caught.value.field == "strength"


def test_a_flow_rounds_strength_up_as_diffusers_does_for_flows() -> None:
    trajectories = Trajectories.of(_flow(shift=3.0))
    whole = trajectories.lay_out("flow_heun", 10, "default")
    assert trajectories.lay_out("flow_heun", 10, "default", strength=0.35).steps == whole.steps[-4:]


def test_a_prediction_that_cannot_start_from_noise_alone_can_start_from_a_picture() -> None:
    epsilon = _noise(prediction_type="epsilon", rescale_betas_zero_snr=True, timestep_spacing="trailing")
    with pytest.raises(RequestError, match="zero terminal SNR"):
        epsilon.lay_out("ddim", 10, "default")
    assert len(epsilon.lay_out("ddim", 10, "default", strength=0.9).steps) == 9


def test_a_flow_is_walked_by_its_shift() -> None:
    trajectories = Trajectories.of(_flow(shift=3.0))
    sigmas = _sigmas(trajectories.lay_out("flow_euler", 4, "default"))
    assert sigmas[0] == 1
    last = 3 * 0.001 / (1 + 2 * 0.001)
    even = [1 - place * (1 - last) / 3 for place in range(4)]
    assert sigmas == pytest.approx([3 * sigma / (1 + 2 * sigma) for sigma in even], rel=1e-6)
    assert trajectories.prediction.name == "flow"


def test_a_dynamic_shift_is_that_of_the_latents_in_tokens() -> None:
    trajectories = Trajectories.of(_flow(dynamic=DynamicShift(patch=2)))
    height, width = 64, 96
    mu = 0.5 + (1.15 - 0.5) / (4096 - 256) * (height // 2 * width // 2 - 256)
    even = [1 - place * 0.999 / 3 for place in range(4)]
    expected = [math.exp(mu) / (math.exp(mu) + 1 / sigma - 1) for sigma in even]
    assert _sigmas(trajectories.lay_out("flow_euler", 4, "default", (height, width))) == pytest.approx(
        expected, rel=1e-6
    )


def test_a_dynamic_shift_is_that_of_trainings_latents_where_none_are_named() -> None:
    trajectories = Trajectories.of(_flow(dynamic=DynamicShift(patch=1)))
    named = trajectories.lay_out("flow_euler", 4, "default", DENOISER.latent_size)
    assert trajectories.lay_out("flow_euler", 4, "default") == named


@pytest.mark.parametrize(
    ("sampler", "schedule", "words"),
    [
        ("flow_euler", "default", "sampler='flow_euler': must be another: this checkpoint is no flow-matching one"),
        ("heun", "odd", "schedule='odd': must be one of align_your_steps, "),
        ("odd", "default", "sampler='odd': must be one of ddim, "),
    ],
)
def test_a_walk_that_there_is_not_is_refused_by_its_field(sampler: str, schedule: str, words: str) -> None:
    with pytest.raises(RequestError, match=words):
        _noise().lay_out(sampler, 5, schedule)


def test_a_flow_takes_flow_samplers() -> None:
    with pytest.raises(RequestError, match="sampler='euler': must be flow_euler or flow_heun"):
        Trajectories.of(_flow()).lay_out("euler", 5, "default")


def test_a_contract_without_a_schedule_is_none_of_a_denoiser() -> None:
    with pytest.raises(ComponentError, match="vae_decoder: its contract has no noise schedule"):
        Trajectories.of(CONTRACTS[Kind.VAE_DECODER])


def test_betas_that_leave_no_signal_are_a_fault_of_the_component() -> None:
    schedule = NoiseSchedule(
        prediction_type="epsilon", num_train_timesteps=1000, beta_schedule="linear", beta_start=0.5, beta_end=0.999
    )
    with pytest.raises(ComponentError, match="denoiser: noise schedule: beta_end=0.999: must be"):
        Trajectories.of(DENOISER.model_copy(update={"noise_schedule": schedule}))
