"""One case through diffusers and through us: the same network, noise and sigmas on both sides."""

import copy
import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from diffusers.schedulers.scheduling_dpmsolver_sde import BrownianTreeNoiseSampler

from diffusion.arrays import Array
from diffusion.drive import run
from diffusion.guidance import guide
from diffusion.noise import noise
from diffusion.prediction import find_prediction
from diffusion.samplers import Draw, Query, find_sampler
from diffusion.samplers.coroutine import ancestral
from diffusion.trajectory import Trajectory
from tests.diffusion.parity_cases import Case

SHAPE = (1, 4, 4, 4)
TOLERANCE = 1e-4

# diffusers makes arrays of tensors in a way that NumPy 2 warns about, and torchsde rounds the ends of its interval
QUIET = [
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:__array_wrap__ must accept context:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Should have t[ab][<>]=t[01] but got:UserWarning"),
]


@functools.cache
def _scheduler_of(case: Case) -> Any:
    """One scheduler for all walks of a case: some take a second to make, and set_timesteps resets them."""
    return case.scheduler()


def scheduler_at(case: Case, steps: int, own_sigmas: bool = False) -> Any:
    """The case's scheduler with its timesteps set, and unless `own_sigmas` with our sigmas."""
    scheduler = _scheduler_of(case)
    scheduler.set_timesteps(steps)
    if hasattr(scheduler, "sigmas") and not own_sigmas:
        _walk_our_sigmas(scheduler, case, case.trajectory(steps))
    return scheduler


# These get our sigmas in float64. From float32 ones LMS, DEIS and the third order take weights that cancel where two
# sigmas nearly meet, and the ancestral split sigma_next^2 - up^2, of which little is left:
# test_ancestral_steps_of_the_cosine.
_WIDE_SIGMAS = ("lms", "deis", "dpmpp_3m_sde", "euler_ancestral", "dpm2_ancestral", "dpmpp_sde")


def _walk_our_sigmas(scheduler: Any, case: Case, trajectory: Trajectory) -> None:
    """Check that the scheduler's sigmas are ours, and give it ours.

    Both tables are float32, and torch's square root is one unit in the last place off in a fifth of the entries, on
    some machines. Steps from large to small sigmas amplify that by their ratio: test_last_bits_of_the_sigmas.
    """
    sigmas = [sigma for step in trajectory.steps for sigma in (step.sigma, *[step.sigma_next] * bool(step.second))]
    missing = len(scheduler.sigmas) - len(sigmas)
    ours = torch.tensor(sigmas + [trajectory.steps[-1].sigma_next] * missing, dtype=torch.float64)
    torch.testing.assert_close(scheduler.sigmas.to(torch.float64), ours, rtol=5e-6, atol=1e-7)
    dtype = torch.float64 if case.sampler in _WIDE_SIGMAS else torch.float32
    scheduler.sigmas = ours.to(dtype)
    if not hasattr(scheduler, "sigmas_interpol"):
        return
    middles = [step.second.sigma for step in trajectory.steps if step.second is not None for _ in range(2)]
    if not hasattr(scheduler, "sigmas_up"):
        scheduler.sigmas_interpol = torch.tensor([0.0, *middles, 0.0, 0.0, 0.0], dtype=dtype)
        return
    scheduler.sigmas_interpol = torch.tensor([*middles, 0.0, 0.0, 0.0], dtype=dtype)
    split = np.array([ancestral(step.sigma, step.sigma_next) for step in trajectory.steps]).repeat(2, axis=0)
    scheduler.sigmas_down, scheduler.sigmas_up = torch.from_numpy(split.T.copy())
    logs = scheduler.log_sigmas.numpy()
    for place, sigma in enumerate(middles[::2]):
        scheduler.timesteps[2 * place + 1] = float(scheduler._sigma_to_t(np.float64(sigma), logs))


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

    @property
    def finite(self) -> bool:
        return bool(np.isfinite(self.final).all())

    def distance(self, other: "Walk") -> float:
        """The largest difference, in units of the largest final latent where that is over 1."""
        largest = max(1.0, float(np.abs(other.final).max()))
        return float(np.abs(self.final.astype(np.float64) - other.final).max()) / largest


class Noise:
    """Both sides' source: the k-th call gives draw k."""

    def __init__(self) -> None:
        self.draws = 0

    def __call__(self) -> Array:
        self.draws += 1
        return noise(5, self.draws, SHAPE)


def through_diffusers(scheduler: Any, start: int = 0, eta: float | None = None, wide: bool = False) -> Walk:
    """Walk a scheduler that has its timesteps, from step `start`; every randn_tensor is the next draw.

    `wide`: in float64, from the same tables and the same noise.
    """
    scheduler = _in_float64(scheduler) if wide else scheduler
    dtype = torch.float64 if wide else torch.float32
    source = Noise()

    def draw(*_args: object, **_kwargs: object) -> torch.Tensor:
        return torch.from_numpy(source()).to(dtype)

    module = next(kind.__module__ for kind in type(scheduler).__mro__ if kind.__module__.startswith("diffusers"))
    first = start * scheduler.order
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(first)
    timesteps = scheduler.timesteps[first:]
    x = _beginning(scheduler, timesteps, start, dtype)
    extra = {} if eta is None else {"eta": eta}
    told = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(f"{module}.randn_tensor", draw, raising=False)
        for timestep in timesteps:
            told.append(float(np.float32(float(timestep))))
            seen = scheduler.scale_model_input(x, timestep) if hasattr(scheduler, "scale_model_input") else x
            output = torch.from_numpy(guided(seen.to(dtype).numpy(), told[-1]))
            x = scheduler.step(output, timestep, x, return_dict=False, **extra)[0]
    return Walk(x.to(dtype).numpy(), told)


def _in_float64(scheduler: Any) -> Any:
    wide = copy.deepcopy(scheduler)
    for name, value in vars(scheduler).items():
        if name != "timesteps" and torch.is_tensor(value) and value.is_floating_point():
            setattr(wide, name, value.double())
    return wide


def _beginning(scheduler: Any, timesteps: torch.Tensor, start: int, dtype: torch.dtype) -> torch.Tensor:
    initial, clean = (torch.from_numpy(noise(seed, 0, SHAPE)).to(dtype) for seed in (5, 6))
    begun: torch.Tensor
    if start == 0:
        begun = initial * getattr(scheduler, "init_noise_sigma", 1.0)
    elif hasattr(scheduler, "scale_noise"):
        # the Heun of flows takes one timestep, the Euler several
        begun = scheduler.scale_noise(clean, timesteps[0] if scheduler.order == 2 else timesteps[:1], initial)
    else:
        begun = scheduler.add_noise(clean, initial, timesteps[:1])
    return begun


def through_ours(
    case: Case, trajectory: Trajectory, draw: Draw | None = None, answers: npt.DTypeLike | None = None
) -> Walk:
    """Walk our sampler; `answers` is the type in which the estimate is computed, where not the one that it wants."""
    prediction = find_prediction(case.prediction_type)
    prediction.check(trajectory)
    initial = noise(5, 0, SHAPE)
    x = trajectory.noised(noise(6, 0, SHAPE), initial) if trajectory.skipped else trajectory.initial_latents(initial)
    row = find_sampler(case.sampler)
    dtype = (np.float64 if row.wide_answers else np.float32) if answers is None else answers
    sampler = row.start(x, trajectory, case.eta, Noise() if draw is None else draw)
    told: list[float] = []

    def denoise(query: Query) -> Array:
        assert query.latents.dtype == np.float32
        told.append(query.timestep)
        output = guided(prediction.network_input(query.latents, query.sigma), query.timestep)
        return prediction.denoised(output, query.latents.astype(dtype), query.sigma)

    final = run(sampler, denoise)
    assert final.dtype == np.float32
    return Walk(final, told)


def brownian_path(scheduler: Any, trajectory: Trajectory) -> Draw:
    """The increments that an equally seeded Brownian tree gives DPMSolverSDEScheduler, in the order we ask for them."""
    sigmas = scheduler.sigmas
    tree = BrownianTreeNoiseSampler(torch.zeros(SHAPE), sigmas[sigmas > 0].min().item(), sigmas.max().item(), seed=7)
    increments = []
    for step in range(len(trajectory.skipped), trajectory.planned - 1):
        # the path is rough: the same bits as the scheduler's own, by the same operations
        start, end = sigmas[2 * step].log().neg(), sigmas[2 * step + 1].log().neg()
        high, middle, low = (time.neg().exp() for time in (start, start + (end - start) * 0.5, end))
        increments += [tree(high, middle), tree(middle, low)]
    ordered = iter(increments)
    return lambda: next(ordered).numpy()


def assert_equal_walks(ours: Walk, theirs: Walk, label: str, tolerance: float = TOLERANCE) -> None:
    assert theirs.finite, label
    assert len(ours.timesteps) == len(theirs.timesteps), label
    for mine, other in zip(ours.timesteps, theirs.timesteps, strict=True):
        # whole timesteps are equal, fractional ones to the float32 of the logarithms they come from
        whole = mine.is_integer() and other.is_integer()
        assert mine == other or (not whole and abs(mine - other) < 2e-3), label
    distance = ours.distance(theirs)
    assert distance <= tolerance, f"{label}: off by {distance:.2e}, limit {tolerance:.0e}"
