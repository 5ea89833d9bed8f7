"""Equality with diffusers for every sampler of the table: the same network, noise and scheduler config through both."""

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DEISMultistepScheduler,
    DPMSolverMultistepScheduler,
    DPMSolverSDEScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FlowMatchHeunDiscreteScheduler,
    HeunDiscreteScheduler,
    KDPM2AncestralDiscreteScheduler,
    KDPM2DiscreteScheduler,
    LCMScheduler,
    LMSDiscreteScheduler,
    PNDMScheduler,
    TCDScheduler,
    UniPCMultistepScheduler,
)
from diffusers.schedulers.scheduling_dpmsolver_sde import BrownianTreeNoiseSampler

from diffusion.arrays import Array
from diffusion.drive import run
from diffusion.errors import DiffusionError
from diffusion.flow import DynamicShift, FlowSchedule
from diffusion.guidance import guide
from diffusion.noise import noise
from diffusion.prediction import find_prediction
from diffusion.samplers import SAMPLERS, Draw, Query, find_sampler
from diffusion.samplers.coroutine import ancestral
from diffusion.schedule import BetaSchedule, NoiseSchedule
from diffusion.sigma_schedules import DEFAULT
from diffusion.spacing import FinalSigma, Spacing, TimestepSpacing
from diffusion.trajectory import Trajectory

# diffusers makes arrays of tensors in a way that NumPy 2 warns about
# and torchsde rounds the ends of its interval
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:__array_wrap__ must accept context:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Should have t[ab][<>]=t[01] but got:UserWarning"),
]

SHAPE = (1, 4, 4, 4)
STEPS = (1, 2, 3, 5, 10, 25, 50)
QUICK_STEPS = (1, 2, 3, 5, 16)
TOLERANCE = 1e-4
IMAGE_TOKENS = 1024

Make = Callable[..., Any]


@dataclass(frozen=True)
class Row:
    """The diffusers scheduler that a sampler is held against, and what it has a field for."""

    make: Make
    config: dict[str, object] = field(default_factory=dict)
    predictions: tuple[str, ...] = ("epsilon", "v_prediction", "sample")
    spacings: tuple[TimestepSpacing, ...] = ("leading", "trailing", "linspace")
    schedules: tuple[str, ...] = ("karras", "exponential", "beta")
    zero_snr: bool = False
    final_sigmas: bool = False
    alpha_to_one: bool = False


class ThirdOrderMended(DPMSolverMultistepScheduler):  # type: ignore[misc]
    """DPMSolverMultistepScheduler with one sign of its third-order SDE step turned, and nothing else.

    The coefficient of the second derivative D2 is (1 - e^-2h - 2h) / (2h)^2 - 1/2 there. It has to vanish with h, as
    the dpmsolver++ branch beside it and k-diffusion's sampler have it: + 1/2. test_properties.py shows what it costs.
    """

    def multistep_dpm_solver_third_order_update(
        self, model_output_list: list[torch.Tensor], *args: Any, sample: torch.Tensor, noise: torch.Tensor
    ) -> torch.Tensor:
        wrong: torch.Tensor = super().multistep_dpm_solver_third_order_update(
            model_output_list, *args, sample=sample, noise=noise
        )
        there, here, before, earlier = (-self.sigmas[self.step_index + ahead].log() for ahead in (1, 0, -1, -2))
        latest, previous, first = model_output_list[-1], model_output_list[-2], model_output_list[-3]
        ratio, earlier_ratio = (here - before) / (there - here), (before - earlier) / (there - here)
        second = ((latest - previous) / ratio - (previous - first) / earlier_ratio) / (ratio + earlier_ratio)
        alpha, _ = self._sigma_to_alpha_sigma_t(self.sigmas[self.step_index + 1])
        mended: torch.Tensor = wrong + alpha * second
        return mended


NO_SAMPLE = ("epsilon", "v_prediction")
DPM_SDE: dict[str, object] = {"algorithm_type": "sde-dpmsolver++"}
FLOW = ("flow",)

ROWS: dict[str, Row] = {
    "ddim": Row(DDIMScheduler, {"clip_sample": False}, schedules=(), zero_snr=True, alpha_to_one=True),
    "ddpm": Row(DDPMScheduler, {"clip_sample": False}, schedules=(), zero_snr=True),
    "euler": Row(EulerDiscreteScheduler, zero_snr=True, final_sigmas=True),
    "euler_ancestral": Row(EulerAncestralDiscreteScheduler, predictions=NO_SAMPLE, schedules=(), zero_snr=True),
    "heun": Row(HeunDiscreteScheduler),
    "dpm2": Row(KDPM2DiscreteScheduler, predictions=NO_SAMPLE),
    "dpm2_ancestral": Row(KDPM2AncestralDiscreteScheduler, predictions=NO_SAMPLE),
    "lms": Row(LMSDiscreteScheduler),
    "dpmpp_2m": Row(DPMSolverMultistepScheduler, zero_snr=True, final_sigmas=True),
    "dpmpp_2m_sde": Row(DPMSolverMultistepScheduler, DPM_SDE, zero_snr=True, final_sigmas=True),
    "dpmpp_3m_sde": Row(ThirdOrderMended, {**DPM_SDE, "solver_order": 3}, zero_snr=True, final_sigmas=True),
    "dpmpp_sde": Row(DPMSolverSDEScheduler, {"noise_sampler_seed": 7}, predictions=NO_SAMPLE),
    "pndm": Row(PNDMScheduler, {"skip_prk_steps": True}, predictions=NO_SAMPLE, schedules=(), alpha_to_one=True),
    "deis": Row(DEISMultistepScheduler),
    "unipc": Row(UniPCMultistepScheduler, zero_snr=True, final_sigmas=True),
    "lcm": Row(LCMScheduler, spacings=("leading",), schedules=(), zero_snr=True),
    "tcd": Row(TCDScheduler, spacings=("leading",), schedules=(), zero_snr=True),
    "flow_euler": Row(FlowMatchEulerDiscreteScheduler, predictions=FLOW, spacings=()),
    "flow_heun": Row(FlowMatchHeunDiscreteScheduler, predictions=FLOW, spacings=(), schedules=()),
}

# diffusers has no scheduler for it: test_samplers_by_paper.py
BY_PAPER = ("dpmpp_2s_ancestral",)


def test_every_sampler_has_a_row() -> None:
    assert set(SAMPLERS) == {*ROWS, *BY_PAPER}


@dataclass(frozen=True)
class Case:
    """One scheduler config, and the sampler asked for."""

    sampler: str
    prediction_type: str = "epsilon"
    beta_schedule: BetaSchedule = "scaled_linear"
    timestep_spacing: TimestepSpacing = "leading"
    schedule: str = DEFAULT
    zero_snr: bool = False
    final: FinalSigma = "zero"
    alpha_to_one: bool = True
    offset: int = 0
    eta: float | None = None

    @property
    def name(self) -> str:
        parts = [self.sampler, self.prediction_type, self.beta_schedule, self.timestep_spacing, self.schedule]
        parts += ["zerosnr"] * self.zero_snr + ["sigmamin"] * (self.final != "zero") + ["one"] * self.alpha_to_one
        parts += [f"offset{self.offset}"] * bool(self.offset) + [f"eta{self.eta}"] * (self.eta is not None)
        return "-".join(parts)

    def scheduler(self) -> Any:
        row = ROWS[self.sampler]
        config = dict(row.config) | {
            "num_train_timesteps": 1000,
            "beta_start": 0.00085,
            "beta_end": 0.012,
            "beta_schedule": self.beta_schedule,
            "prediction_type": self.prediction_type,
            "timestep_spacing": self.timestep_spacing,
            "steps_offset": self.offset,
        }
        config |= {"rescale_betas_zero_snr": self.zero_snr} if row.zero_snr else {}
        config |= {"final_sigmas_type": self.final} if row.final_sigmas else {}
        config |= {"set_alpha_to_one": self.alpha_to_one} if row.alpha_to_one else {}
        config |= {f"use_{self.schedule}_sigmas": True} if self.schedule != DEFAULT else {}
        scheduler = row.make(**config)
        if self.zero_snr and self.beta_schedule == "squaredcos_cap_v2":
            # as in test_parity.py: the first sigmas of this table hang on the last bit of a square root
            last = scheduler.alphas_cumprod[-1].clone()
            scheduler.alphas_cumprod = torch.tensor(self.noise_schedule.alphas_cumprod, dtype=torch.float32)
            scheduler.alphas_cumprod[-1] = last
            if not self.alpha_to_one:
                scheduler.final_alpha_cumprod = scheduler.alphas_cumprod[0]
        return scheduler

    @property
    def cosine(self) -> bool:
        return self.beta_schedule == "squaredcos_cap_v2"

    @property
    def noise_schedule(self) -> NoiseSchedule:
        return NoiseSchedule(1000, self.beta_schedule, 0.00085, 0.012, self.zero_snr)

    def trajectory(self, steps: int) -> Trajectory:
        spacing = Spacing(self.timestep_spacing, self.offset, self.alpha_to_one, self.final)
        return find_sampler(self.sampler).trajectory(
            self.noise_schedule, spacing, steps, sigma_schedule=self.schedule, prediction_type=self.prediction_type
        )


@functools.cache
def scheduler_of(case: Case) -> Any:
    """One scheduler for all walks of a case: some take a second to make, and set_timesteps resets them."""
    return case.scheduler()


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


class Noise:
    """Both sides' source: the k-th call gives draw k."""

    def __init__(self) -> None:
        self.draws = 0

    def __call__(self) -> Array:
        self.draws += 1
        return noise(5, self.draws, SHAPE)


def through_diffusers(scheduler: Any, monkeypatch: pytest.MonkeyPatch, start: int, eta: float | None = None) -> Walk:
    """Walk a scheduler that has its timesteps, from step `start`; every randn_tensor is the next draw."""
    source = Noise()

    def draw(*_args: object, **_kwargs: object) -> torch.Tensor:
        return torch.from_numpy(source())

    module = next(kind.__module__ for kind in type(scheduler).__mro__ if kind.__module__.startswith("diffusers"))
    monkeypatch.setattr(f"{module}.randn_tensor", draw, raising=False)
    first = start * scheduler.order
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(first)
    timesteps = scheduler.timesteps[first:]
    x = beginning(scheduler, timesteps, start)
    extra = {} if eta is None else {"eta": eta}
    told = []
    for timestep in timesteps:
        told.append(float(np.float32(float(timestep))))
        seen = scheduler.scale_model_input(x, timestep) if hasattr(scheduler, "scale_model_input") else x
        output = torch.from_numpy(guided(seen.to(torch.float32).numpy(), told[-1]))
        x = scheduler.step(output, timestep, x, return_dict=False, **extra)[0]
    return Walk(x.to(torch.float32).numpy(), told)


def beginning(scheduler: Any, timesteps: torch.Tensor, start: int) -> torch.Tensor:
    initial, clean = (torch.from_numpy(noise(seed, 0, SHAPE)) for seed in (5, 6))
    begun: torch.Tensor
    if start == 0:
        begun = initial * getattr(scheduler, "init_noise_sigma", 1.0)
    elif hasattr(scheduler, "scale_noise"):
        # the Heun of flows takes one timestep, the Euler several
        begun = scheduler.scale_noise(clean, timesteps[0] if scheduler.order == 2 else timesteps[:1], initial)
    else:
        begun = scheduler.add_noise(clean, initial, timesteps[:1])
    return begun


def through_ours(case: Case, trajectory: Trajectory, draw: Draw | None = None) -> Walk:
    prediction = find_prediction(case.prediction_type)
    prediction.check(trajectory)
    initial = noise(5, 0, SHAPE)
    x = trajectory.noised(noise(6, 0, SHAPE), initial) if trajectory.skipped else trajectory.initial_latents(initial)
    sampler = find_sampler(case.sampler).start(x, trajectory, case.eta, Noise() if draw is None else draw)
    told: list[float] = []

    def denoise(query: Query) -> Array:
        told.append(query.timestep)
        output = guided(prediction.network_input(query.latents, query.sigma), query.timestep)
        return prediction.denoised(output, query.latents, query.sigma)

    return Walk(run(sampler, denoise), told)


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


def walk_our_sigmas(scheduler: Any, trajectory: Trajectory) -> None:
    """Check that the scheduler's sigmas are ours, and give it ours, in float64.

    Both tables are float32 and differ in the last bit, which steps from large to small sigmas amplify by their ratio:
    Heun's two linspace steps with sample prediction would be off by 1.4e-3. And what ancestral steps leave over is
    lost in diffusers' float32 where the betas are those of the cosine: test_ancestral_steps_of_the_cosine.
    """
    sigmas = [sigma for step in trajectory.steps for sigma in (step.sigma, *[step.sigma_next] * bool(step.second))]
    missing = len(scheduler.sigmas) - len(sigmas)
    ours = torch.tensor(sigmas + [trajectory.steps[-1].sigma_next] * missing, dtype=torch.float64)
    torch.testing.assert_close(scheduler.sigmas.to(torch.float64), ours, rtol=5e-6, atol=1e-7)
    scheduler.sigmas = ours
    if not hasattr(scheduler, "sigmas_interpol"):
        return
    middles = [step.second.sigma for step in trajectory.steps if step.second is not None for _ in range(2)]
    if not hasattr(scheduler, "sigmas_up"):
        scheduler.sigmas_interpol = torch.tensor([0.0, *middles, 0.0, 0.0, 0.0], dtype=torch.float64)
        return
    scheduler.sigmas_interpol = torch.tensor([*middles, 0.0, 0.0, 0.0], dtype=torch.float64)
    split = np.array([ancestral(step.sigma, step.sigma_next) for step in trajectory.steps]).repeat(2, axis=0)
    scheduler.sigmas_down, scheduler.sigmas_up = torch.from_numpy(split.T.copy())
    logs = scheduler.log_sigmas.numpy()
    for place, sigma in enumerate(middles[::2]):
        scheduler.timesteps[2 * place + 1] = float(scheduler._sigma_to_t(np.float64(sigma), logs))


def never_moves(case: Case, steps: int) -> bool:
    """DEIS and UniPC, one step of a sigma schedule that does not end at 0: diffusers ends at the sigma it starts at."""
    stays = case.sampler == "deis" or (case.sampler == "unipc" and case.final == "sigma_min")
    return stays and case.schedule != DEFAULT and steps == 1


def divides_by_the_step(case: Case, trajectory: Trajectory) -> bool:
    """The third-order step between two equal sigmas: diffusers divides 0 by 0."""
    last = trajectory.steps[-1]
    stays = case.final == "sigma_min" and abs(last.sigma / last.sigma_next - 1) < 1e-6
    return case.sampler == "dpmpp_3m_sde" and stays and trajectory.planned >= 15


def divides_by_no_signal(case: Case, trajectory: Trajectory) -> bool:
    """Epsilon where the first timestep is nothing but noise: diffusers divides by an alpha of 0."""
    return case.prediction_type == "epsilon" and trajectory.starts_at_zero_snr


# One unit in the last place of float32 latents at the cosine's largest sigma, 20,000, is 1e-3. DEIS, Heun and DPM2 are
# off by as much on both sides; PNDM on ours, as the estimate it is sent carries that rounding and the noise does not.
COSINE_TOLERANCE = {"pndm": 2e-2, "deis": 1e-2, "heun": 2e-3, "dpm2": 1e-3}


def assert_parity(
    case: Case, monkeypatch: pytest.MonkeyPatch, steps: int, start: int = 0, own_sigmas: bool = False
) -> None:
    label = f"{case.name} steps={steps} start={start}"
    scheduler = scheduler_of(case)
    scheduler.set_timesteps(steps)
    trajectory = case.trajectory(steps)
    draw = None
    if never_moves(case, steps):
        assert scheduler.sigmas[0] == scheduler.sigmas[1], label
        assert np.isfinite(through_ours(case, trajectory).final).all(), label
        return
    if hasattr(scheduler, "sigmas") and not own_sigmas:
        walk_our_sigmas(scheduler, trajectory)
    trajectory = trajectory.starting_at(start)
    if case.sampler == "dpmpp_sde":
        draw = brownian_path(scheduler, trajectory)
    theirs = through_diffusers(scheduler, monkeypatch, start, case.eta)
    if divides_by_no_signal(case, trajectory):
        assert not np.isfinite(theirs.final).all(), label
        with pytest.raises(DiffusionError, match=r"prediction_type='epsilon'.*zero terminal SNR"):
            through_ours(case, trajectory)
        return
    ours = through_ours(case, trajectory, draw)
    if divides_by_the_step(case, trajectory):
        assert not np.isfinite(theirs.final).all(), label
        assert np.isfinite(ours.final).all(), label
        return
    tolerance = COSINE_TOLERANCE.get(case.sampler, TOLERANCE) if case.cosine else TOLERANCE
    assert_equal_walks(ours, theirs, label, tolerance)


def assert_equal_walks(ours: Walk, theirs: Walk, label: str, tolerance: float = TOLERANCE) -> None:
    assert ours.final.dtype == np.float32, label
    assert np.isfinite(theirs.final).all(), label
    # whole timesteps are equal, fractional ones to the float32 of the logarithms they come from
    whole = [float(timestep).is_integer() for timestep in theirs.timesteps]
    assert len(ours.timesteps) == len(theirs.timesteps), label
    for mine, other, exact in zip(ours.timesteps, theirs.timesteps, whole, strict=True):
        assert mine == other or (not (exact and mine.is_integer()) and abs(mine - other) < 2e-3), label
    error = float(np.abs(ours.final - theirs.final).max())
    limit = tolerance * max(1.0, float(np.abs(theirs.final).max()))
    assert error <= limit, f"{label}: off by {error:.2e}, limit {limit:.2e}"


BETA_SAMPLERS = [name for name, row in ROWS.items() if row.spacings]


def quick_cases() -> Iterator[Case]:
    for name in BETA_SAMPLERS:
        row = ROWS[name]
        for prediction, spacing in product(row.predictions, row.spacings):
            yield Case(name, prediction, timestep_spacing=spacing)
        for schedule in row.schedules:
            yield Case(name, "v_prediction", timestep_spacing="linspace", schedule=schedule)
        yield Case(name, beta_schedule="squaredcos_cap_v2", timestep_spacing=row.spacings[-1])
        if row.zero_snr:
            yield Case(name, "v_prediction", timestep_spacing=row.spacings[-1], zero_snr=True)
        if "leading" in row.spacings and name not in ("lcm", "tcd"):
            yield Case(name, offset=1, alpha_to_one=False, final="sigma_min" if row.final_sigmas else "zero")
    yield from (Case("tcd", eta=eta) for eta in (0.0, 0.7, 1.0))
    yield from (Case("ddim", eta=eta) for eta in (0.5, 1.0))


def all_cases(name: str) -> Iterator[Case]:
    row = ROWS[name]
    betas: tuple[BetaSchedule, ...] = ("linear", "scaled_linear", "squaredcos_cap_v2")
    finals: tuple[FinalSigma, ...] = ("zero", "sigma_min") if row.final_sigmas else ("zero",)
    fields = product(
        row.predictions,
        betas,
        row.spacings,
        (DEFAULT, *row.schedules),
        (False, True) if row.zero_snr else (False,),
        finals,
        (False, True) if row.alpha_to_one else (True,),
    )
    yield from (Case(name, *values) for values in fields)


@pytest.mark.parametrize("case", list(quick_cases()), ids=lambda case: case.name)
def test_walks_as_diffusers_does(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    for steps in QUICK_STEPS:
        assert_parity(case, monkeypatch, steps)


@pytest.mark.slow
@pytest.mark.parametrize("name", BETA_SAMPLERS)
def test_every_combination_walks_as_diffusers_does(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for case, steps in product(all_cases(name), STEPS):
        assert_parity(case, monkeypatch, steps)


@pytest.mark.parametrize("name", BETA_SAMPLERS)
def test_starts_at_any_step(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    row = ROWS[name]
    for prediction, schedule in product(row.predictions[:2], (DEFAULT, *row.schedules[:1])):
        case = Case(name, prediction, timestep_spacing=row.spacings[0], schedule=schedule)
        for steps, start in ((2, 1), (5, 1), (5, 2), (5, 3), (5, 4)):
            assert_parity(case, monkeypatch, steps, start)


@pytest.mark.slow
@pytest.mark.parametrize("name", BETA_SAMPLERS)
def test_every_combination_starts_at_any_step(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    row = ROWS[name]
    for prediction, spacing, schedule in product(row.predictions, row.spacings, (DEFAULT, *row.schedules)):
        case = Case(name, prediction, timestep_spacing=spacing, schedule=schedule)
        for steps in (3, 10, 25):
            for start in range(1, steps):
                assert_parity(case, monkeypatch, steps, start)


@pytest.mark.parametrize("name", BETA_SAMPLERS)
def test_walks_so_on_its_own_sigmas_too(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    row = ROWS[name]
    for prediction, spacing, schedule in product(row.predictions[:2], row.spacings, (DEFAULT, *row.schedules[:1])):
        case = Case(name, prediction, timestep_spacing=spacing, schedule=schedule)
        for steps in (3, 16):
            assert_parity(case, monkeypatch, steps, own_sigmas=True)


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row.predictions == NO_SAMPLE])
def test_diffusers_refuses_sample_prediction_here(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case(name, "sample")
    scheduler = case.scheduler()
    scheduler.set_timesteps(3)
    with pytest.raises((NotImplementedError, ValueError), match="prediction_type"):
        through_diffusers(scheduler, monkeypatch, 0)
    assert np.isfinite(through_ours(case, case.trajectory(3)).final).all()


@pytest.mark.parametrize("name", ["euler_ancestral", "dpm2_ancestral"])
def test_ancestral_steps_of_the_cosine(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """From sigma 20,000 diffusers rounds sigma_next^2 - sigma_up^2 below 0, in float32, and takes the root."""
    case = Case(name, beta_schedule="squaredcos_cap_v2", timestep_spacing="trailing")
    scheduler = case.scheduler()
    scheduler.set_timesteps(3)
    assert not np.isfinite(through_diffusers(scheduler, monkeypatch, 0).final).all()
    assert np.isfinite(through_ours(case, case.trajectory(3)).final).all()


def flow_cases() -> Iterator[tuple[str, dict[str, Any], FlowSchedule, str]]:
    for name, shift in product(("flow_euler", "flow_heun"), (1.0, 3.0)):
        yield name, {"shift": shift}, FlowSchedule(shift=shift), DEFAULT
    for schedule in ROWS["flow_euler"].schedules:
        yield "flow_euler", {"shift": 3.0, f"use_{schedule}_sigmas": True}, FlowSchedule(shift=3.0), schedule
    for kind in ("exponential", "linear"):
        config = {"use_dynamic_shifting": True, "time_shift_type": kind}
        yield "flow_euler", config, FlowSchedule(dynamic=DynamicShift(time_shift_type=kind)), DEFAULT


@pytest.mark.parametrize(("name", "config", "schedule", "sigma_schedule"), list(flow_cases()), ids=str)
def test_flows_walk_as_diffusers_does(
    name: str, config: dict[str, Any], schedule: FlowSchedule, sigma_schedule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # the linear interpolation that FluxPipeline makes of its config's four fields
    mu = 0.5 + (1.15 - 0.5) / (4096 - 256) * (IMAGE_TOKENS - 256)
    for steps in STEPS:
        for start in {0, 1, steps // 2, steps - 1} & set(range(steps)):
            scheduler = ROWS[name].make(**config)
            scheduler.set_timesteps(steps, **({"mu": mu} if schedule.dynamic else {}))
            theirs = through_diffusers(scheduler, monkeypatch, start)
            trajectory = find_sampler(name).trajectory(
                schedule, Spacing(), steps, sigma_schedule=sigma_schedule, image_tokens=IMAGE_TOKENS
            )
            ours = through_ours(Case(name, "flow"), trajectory.starting_at(start))
            assert_equal_walks(ours, theirs, f"{name} {config} steps={steps} start={start}")


@pytest.mark.parametrize("name", [name for name in BETA_SAMPLERS if name not in ("ddim", "euler")])
def test_diffusers_refuses_flow_in_these_samplers(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    scheduler = Case(name, "flow").scheduler()
    scheduler.set_timesteps(3)
    with pytest.raises((ValueError, NotImplementedError), match="prediction_type given as flow"):
        through_diffusers(scheduler, monkeypatch, 0)
    with pytest.raises(DiffusionError, match=f"sampler='{name}': must be flow_euler or flow_heun"):
        find_sampler(name).trajectory(FlowSchedule(), Spacing(), 3)
