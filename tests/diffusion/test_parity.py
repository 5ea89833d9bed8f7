"""Equality with diffusers: the same network, noise and scheduler config through both."""

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler

from diffusion.arrays import Array
from diffusion.drive import run
from diffusion.errors import DiffusionError
from diffusion.guidance import guide
from diffusion.latents import add_noise
from diffusion.noise import noise
from diffusion.prediction import find_prediction
from diffusion.samplers import Query, find_sampler
from diffusion.schedule import BetaSchedule, NoiseSchedule
from diffusion.spacing import FinalSigma, Spacing, TimestepSpacing
from diffusion.trajectory import Trajectory

# diffusers makes arrays of tensors in a way that NumPy 2 warns about
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

SHAPE = (2, 4, 3, 5)
STEPS = (1, 2, 3, 5, 7, 10, 25, 33, 50)
TOLERANCE = 1e-4
PREDICTIONS = ("epsilon", "v_prediction", "sample")
BETAS: tuple[BetaSchedule, ...] = ("linear", "scaled_linear", "squaredcos_cap_v2")
FINALS: tuple[FinalSigma, ...] = ("zero", "sigma_min")
SCHEDULERS: dict[str, Callable[..., Any]] = {"ddim": DDIMScheduler, "euler": EulerDiscreteScheduler}


@dataclass(frozen=True)
class Case:
    """One scheduler config, and the sampler asked for; a field left None is absent from the config."""

    sampler: str
    prediction_type: str = "epsilon"
    beta_schedule: BetaSchedule = "scaled_linear"
    rescale_betas_zero_snr: bool = False
    timestep_spacing: TimestepSpacing | None = None
    steps_offset: int = 0
    set_alpha_to_one: bool | None = None
    final_sigmas_type: FinalSigma | None = None
    eta: float = 0.0

    @property
    def config(self) -> dict[str, object]:
        fields = {
            "num_train_timesteps": 1000,
            "beta_start": 0.00085,
            "beta_end": 0.012,
            "prediction_type": self.prediction_type,
            "beta_schedule": self.beta_schedule,
            "rescale_betas_zero_snr": self.rescale_betas_zero_snr,
            "timestep_spacing": self.timestep_spacing,
            "steps_offset": self.steps_offset,
            "set_alpha_to_one": self.set_alpha_to_one,
            "final_sigmas_type": self.final_sigmas_type,
            "clip_sample": False,
        }
        return {name: value for name, value in fields.items() if value is not None}

    @property
    def name(self) -> str:
        parts = [self.sampler, self.prediction_type, self.beta_schedule, str(self.timestep_spacing)]
        parts += [f"offset{self.steps_offset}", f"one{self.set_alpha_to_one}", f"final{self.final_sigmas_type}"]
        return "-".join([*parts, f"eta{self.eta:g}", *(["zerosnr"] if self.rescale_betas_zero_snr else [])])

    @property
    def schedule(self) -> NoiseSchedule:
        return NoiseSchedule(1000, self.beta_schedule, 0.00085, 0.012, self.rescale_betas_zero_snr)

    @property
    def spacing(self) -> Spacing:
        return Spacing(
            self.timestep_spacing,
            self.steps_offset,
            True if self.set_alpha_to_one is None else self.set_alpha_to_one,
            "zero" if self.final_sigmas_type is None else self.final_sigmas_type,
        )

    def trajectory(self, steps: int) -> Trajectory:
        return find_sampler(self.sampler).trajectory(self.schedule, self.spacing, steps)


def network(x: Array, timestep: float, conditioning: float) -> Array:
    time = np.float32(math.sin(timestep / 70) * 0.3)
    output: Array = np.float32(0.7) * np.tanh(x * np.float32(0.8) + np.float32(conditioning)) + time
    return output


def guided(x: Array, timestep: float) -> Array:
    return guide(network(x, timestep, -0.2), network(x, timestep, 0.5), 3.0)


@dataclass
class Walk:
    final: Array
    timesteps: list[float]


def through_diffusers(case: Case, scheduler: Any, steps: int, start: int | None = None) -> Walk:
    scheduler.set_timesteps(steps)
    first = 0 if start is None else start
    if hasattr(scheduler, "set_begin_index"):
        scheduler._step_index = None
        scheduler.set_begin_index(first)
    initial = torch.from_numpy(noise(5, 0, SHAPE))
    if start is None:
        x = initial * scheduler.init_noise_sigma
    else:
        x = scheduler.add_noise(torch.from_numpy(noise(6, 0, SHAPE)), initial, scheduler.timesteps[first : first + 1])
    told = []
    for draw, timestep in enumerate(scheduler.timesteps[first:], start=1):
        told.append(float(timestep))
        output = torch.from_numpy(guided(scheduler.scale_model_input(x, timestep).numpy(), told[-1]))
        extra = {"eta": case.eta, "variance_noise": torch.from_numpy(noise(5, draw, SHAPE))} if case.eta else {}
        x = scheduler.step(output, timestep, x, return_dict=False, **extra)[0]
    return Walk(x.numpy(), told)


def through_ours(case: Case, steps: int, start: int | None = None) -> Walk:
    trajectory = case.trajectory(steps)
    initial = noise(5, 0, SHAPE)
    if start is None:
        x = trajectory.initial_latents(initial)
    else:
        trajectory = trajectory.starting_at(start)
        x = add_noise(noise(6, 0, SHAPE), initial, trajectory.steps[0].sigma)
    prediction = find_prediction(case.prediction_type)
    prediction.check(trajectory)
    draws = iter(range(1, steps + 1))
    sampler = find_sampler(case.sampler).start(x, trajectory, case.eta, lambda: noise(5, next(draws), SHAPE))
    told: list[float] = []

    def denoise(query: Query) -> Array:
        told.append(query.timestep)
        output = guided(prediction.network_input(query.latents, query.sigma), query.timestep)
        return prediction.denoised(output, query.latents, query.sigma)

    return Walk(run(sampler, denoise), told)


def assert_equal_walks(ours: Walk, theirs: Walk, label: str) -> None:
    assert ours.timesteps == theirs.timesteps, label
    assert ours.final.dtype == np.float32, label
    error = float(np.abs(ours.final - theirs.final).max())
    limit = TOLERANCE * max(1.0, float(np.abs(theirs.final).max()))
    assert error <= limit, f"{label}: off by {error:.2e}, limit {limit:.2e}"


def divides_by_zero(case: Case, steps: int, start: int) -> bool:
    """DDIM, epsilon and a first query at zero terminal SNR: diffusers divides by an alpha of 0."""
    visits_the_last = case.timestep_spacing == "trailing" or (case.timestep_spacing == "linspace" and steps > 1)
    pure_noise = case.rescale_betas_zero_snr and visits_the_last and start == 0
    return case.sampler == "ddim" and case.prediction_type == "epsilon" and pure_noise


def cancelled(case: Case, scheduler: Any, steps: int, start: int) -> float | None:
    """DDIM, eta 1 and a first query at or near zero terminal SNR: 1 - alpha_prev - variance is what rounding leaves."""
    scheduler.set_timesteps(steps)
    timestep = int(scheduler.timesteps[start])
    if case.sampler != "ddim" or case.eta < 1 or timestep != 999 or float(scheduler.alphas_cumprod[timestep]) > 1e-8:
        return None
    lower = timestep - 1000 // steps
    signal = scheduler.alphas_cumprod[lower] if lower >= 0 else scheduler.final_alpha_cumprod
    deviation = case.eta * scheduler._get_variance(timestep, lower) ** 0.5
    return float(1 - signal - deviation**2)


def in_float64(scheduler: Any) -> Any:
    """The same scheduler and table, whose arithmetic does not lose what `cancelled` is about."""
    exact = copy.deepcopy(scheduler)
    exact.alphas_cumprod = scheduler.alphas_cumprod.double()
    exact.final_alpha_cumprod = scheduler.final_alpha_cumprod.double()
    return exact


def scheduler_of(case: Case) -> Any:
    scheduler = SCHEDULERS[case.sampler].from_config(case.config)  # type: ignore[attr-defined]
    if case.rescale_betas_zero_snr and case.beta_schedule == "squaredcos_cap_v2":
        # The first sigmas of this table hang on the last bit of a square root, which torch on x86 rounds either way.
        # test_schedule.py compares the tables; here both sides walk the same one.
        last = scheduler.alphas_cumprod[-1].clone()
        scheduler.alphas_cumprod = torch.tensor(case.schedule.alphas_cumprod, dtype=torch.float32)
        scheduler.alphas_cumprod[-1] = last
        if case.set_alpha_to_one is False:
            scheduler.final_alpha_cumprod = scheduler.alphas_cumprod[0]
    return scheduler


def assert_parity(case: Case, scheduler: Any, steps: int, start: int | None = None) -> None:
    label = f"{case.name} steps={steps} start={start}"
    theirs = through_diffusers(case, scheduler, steps, start)
    if divides_by_zero(case, steps, start or 0):
        assert not np.isfinite(theirs.final).all(), label
        with pytest.raises(DiffusionError, match=r"prediction_type='epsilon'.*zero terminal SNR"):
            through_ours(case, steps, start)
        return
    left = cancelled(case, scheduler, steps, start or 0)
    if left is not None and left >= 0 and not case.rescale_betas_zero_snr:
        # nearly all of it is rounding; where the first alpha is exactly 0, so is the exact difference
        theirs = through_diffusers(case, in_float64(scheduler), steps, start)
    if left is not None and left < 0:
        # the root of a negative number
        assert not np.isfinite(theirs.final).all(), label
        assert np.isfinite(through_ours(case, steps, start).final).all(), label
        case = replace(case, eta=0.999)
        theirs = through_diffusers(case, scheduler, steps, start)
    assert np.isfinite(theirs.final).all(), label
    assert_equal_walks(through_ours(case, steps, start), theirs, label)


def cases() -> Iterator[Case]:
    spaced = [Case("ddim", timestep_spacing="leading", steps_offset=1)]
    spaced += [Case("ddim", timestep_spacing=spacing) for spacing in (None, "leading", "trailing", "linspace")]
    for case, prediction, beta, zero_snr in product(spaced, PREDICTIONS, BETAS, (False, True)):
        shared = replace(case, prediction_type=prediction, beta_schedule=beta, rescale_betas_zero_snr=zero_snr)
        if case.timestep_spacing is None:
            # one run shows what absent fields stand for
            yield shared
            yield replace(shared, sampler="euler")
            continue
        for alpha, eta in product((False, True), (0.0, 1.0)):
            yield replace(shared, set_alpha_to_one=alpha, eta=eta)
        for final in FINALS:
            yield replace(shared, sampler="euler", final_sigmas_type=final)


@pytest.mark.parametrize("case", list(cases()), ids=lambda case: case.name)
def test_walks_as_diffusers_does(case: Case) -> None:
    scheduler = scheduler_of(case)
    for steps in STEPS:
        assert_parity(case, scheduler, steps)


@pytest.mark.parametrize("zero_snr", [False, True])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("sampler", ["ddim", "euler"])
def test_starts_at_any_step(sampler: str, spacing: TimestepSpacing, prediction: str, zero_snr: bool) -> None:
    case = Case(sampler, prediction, rescale_betas_zero_snr=zero_snr, timestep_spacing=spacing, set_alpha_to_one=False)
    case = replace(case, eta=0.7 if sampler == "ddim" else 0.0)
    scheduler = scheduler_of(case)
    for steps in (1, 5, 13):
        for start in range(steps):
            assert_parity(case, scheduler, steps, start)


@pytest.mark.parametrize("steps", [16, 30, 48, 61, 999, 1000])
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("sampler", ["ddim", "euler"])
def test_long_walks_visit_the_timesteps_of_diffusers(sampler: str, spacing: TimestepSpacing, steps: int) -> None:
    case = Case(sampler, timestep_spacing=spacing)
    scheduler = scheduler_of(case)
    scheduler.set_timesteps(steps)
    theirs = [float(timestep) for timestep in scheduler.timesteps]
    if spacing == "trailing" and steps == 61:
        # a 62nd step, by float error in a range: it indexes the noisiest timestep after the cleanest
        assert theirs.pop() == -1.0
    assert [step.timestep for step in case.trajectory(steps).steps] == theirs


def test_refuses_a_timestep_that_was_never_trained() -> None:
    case = Case("ddim", timestep_spacing="leading", steps_offset=1)
    with pytest.raises(IndexError):
        through_diffusers(case, scheduler_of(case), 1000)
    with pytest.raises(DiffusionError, match=r"steps_offset=1: must be at most 0 for 1000 steps"):
        case.trajectory(1000)
    # diffusers' Euler goes on and tells the network 1000; we refuse that too
    euler = replace(case, sampler="euler")
    assert through_diffusers(euler, scheduler_of(euler), 1000).timesteps[0] == 1000
    with pytest.raises(DiffusionError, match="steps_offset"):
        euler.trajectory(1000)


@pytest.mark.parametrize("sampler", ["ddim", "euler"])
def test_diffusers_refuses_flow_in_these_samplers(sampler: str) -> None:
    case = Case(sampler, "flow")
    with pytest.raises(ValueError, match="prediction_type given as flow"):
        through_diffusers(case, scheduler_of(case), 3)
