"""Where equality with diffusers ends, and why: its rounding, what it refuses, its flows, which have no betas."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest

from diffusion.errors import DiffusionError
from diffusion.flow import DynamicShift, FlowSchedule
from diffusion.samplers import find_sampler
from diffusion.sigma_schedules import DEFAULT
from diffusion.spacing import Spacing
from tests.diffusion.parity import (
    QUIET,
    TOLERANCE,
    Walk,
    assert_equal_walks,
    brownian_path,
    scheduler_at,
    through_diffusers,
    through_ours,
)
from tests.diffusion.parity_cases import BETA_SAMPLERS, NO_SAMPLE, ROWS, STEPS, Case

pytestmark = QUIET

IMAGE_TOKENS = 1024
# their schedulers walk alphas_cumprod
WITHOUT_SIGMAS = ("ddim", "ddpm", "pndm", "lcm", "tcd")
COSINE_WALK = Case("deis", beta_schedule="squaredcos_cap_v2", timestep_spacing="trailing")


@pytest.mark.parametrize(
    ("name", "prediction"), [("deis", "v_prediction"), ("deis", "sample"), ("pndm", "v_prediction")]
)
def test_what_float32_costs_diffusers(name: str, prediction: str) -> None:
    """From the cosine's sigma of 20,000 it ends over 1e-3 from its own walk in float64, and we within 1e-5 of that."""
    case = replace(COSINE_WALK, sampler=name, prediction_type=prediction)
    for steps in (1, 2, 3):
        exact = through_diffusers(scheduler_at(case, steps), wide=True)
        assert through_diffusers(scheduler_at(case, steps)).distance(exact) > 1e-3
        assert through_ours(case, case.trajectory(steps)).distance(exact) < 1e-5


@pytest.mark.parametrize(("spacing", "steps"), [("trailing", 2), ("trailing", 3), ("linspace", 2)])
def test_what_a_float32_answer_costs_pndm(spacing: Any, steps: int) -> None:
    """Its second query is at a small sigma, where x - sigma * noise is too coarse to give the noise back."""
    case = replace(COSINE_WALK, sampler="pndm", timestep_spacing=spacing)
    theirs = through_diffusers(scheduler_at(case, steps))
    assert TOLERANCE < through_ours(case, case.trajectory(steps), answers=np.float32).distance(theirs) < 2e-2
    assert through_ours(case, case.trajectory(steps)).distance(theirs) < 1e-6


def on_its_own_sigmas(case: Case, steps: int) -> tuple[Walk, Walk]:
    scheduler = scheduler_at(case, steps, own_sigmas=True)
    trajectory = case.trajectory(steps)
    draw = brownian_path(scheduler, trajectory) if case.sampler == "dpmpp_sde" else None
    return through_ours(case, trajectory, draw), through_diffusers(scheduler, eta=case.eta)


def amplifies_the_last_bits(case: Case, steps: int) -> bool:
    """Two linspace steps, from the largest sigma to the smallest: DPM2 a lands below it."""
    few = 3 if case.schedule == "exponential" else 2
    return case.sampler == "dpm2_ancestral" and case.timestep_spacing == "linspace" and steps <= few


@pytest.mark.slow
@pytest.mark.parametrize("name", BETA_SAMPLERS)
def test_walks_so_on_its_own_sigmas_too(name: str) -> None:
    """For the other tests diffusers gets our sigmas: square roots rounded right."""
    row = ROWS[name]
    for prediction, spacing, schedule in product(row.predictions, row.spacings, (DEFAULT, *row.schedules[:1])):
        case = Case(name, prediction, timestep_spacing=spacing, schedule=schedule)
        for steps in (2, 3, 16):
            if not amplifies_the_last_bits(case, steps):
                assert_equal_walks(*on_its_own_sigmas(case, steps), f"{case.name} steps={steps}")


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in BETA_SAMPLERS if name not in WITHOUT_SIGMAS])
def test_every_combination_walks_so_on_its_own_sigmas_too(name: str) -> None:
    """But for the cosine's betas, whose sigma of 20,000 makes even more of the last bits."""
    row = ROWS[name]
    for prediction, spacing, schedule in product(row.predictions, row.spacings, (DEFAULT, *row.schedules)):
        for beta, steps in product(("linear", "scaled_linear"), (2, 3, 5, 10)):
            case = Case(name, prediction, beta, spacing, schedule)  # type: ignore[arg-type]
            if not amplifies_the_last_bits(case, steps):
                assert_equal_walks(*on_its_own_sigmas(case, steps), f"{case.name} steps={steps}")


@pytest.mark.parametrize(
    ("case", "steps"),
    [
        (Case("dpm2_ancestral", "epsilon", "linear", "linspace"), 2),
        (Case("dpm2_ancestral", "v_prediction", "linear", "linspace"), 2),
        (Case("euler_ancestral", "v_prediction", timestep_spacing="trailing", zero_snr=True), 2),
    ],
    ids=lambda value: value.name if isinstance(value, Case) else f"{value}",
)
def test_last_bits_of_the_sigmas(case: Case, steps: int) -> None:
    """Sigmas that differ from its own in the last bit move diffusers' picture by over 1e-4; on one table we agree."""
    ours, theirs = on_its_own_sigmas(case, steps)
    assert ours.distance(theirs) > TOLERANCE
    moved = through_diffusers(scheduler_at(case, steps))
    assert moved.distance(theirs) > TOLERANCE
    assert_equal_walks(ours, moved, case.name)


@pytest.mark.parametrize("name", ["euler_ancestral", "dpm2_ancestral"])
def test_ancestral_steps_of_the_cosine(name: str) -> None:
    """From sigma 20,000 diffusers rounds sigma_next^2 - sigma_up^2 below 0, in float32, and takes the root."""
    ours, theirs = on_its_own_sigmas(replace(COSINE_WALK, sampler=name), 3)
    assert not theirs.finite
    assert ours.finite


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row.predictions == NO_SAMPLE])
def test_diffusers_refuses_sample_prediction_here(name: str) -> None:
    case = Case(name, "sample")
    with pytest.raises((NotImplementedError, ValueError), match="prediction_type"):
        through_diffusers(scheduler_at(case, 3))
    assert through_ours(case, case.trajectory(3)).finite


@pytest.mark.parametrize("name", BETA_SAMPLERS)
def test_diffusers_refuses_flow_in_these_samplers(name: str) -> None:
    with pytest.raises((ValueError, NotImplementedError), match="prediction_type given as flow"):
        through_diffusers(scheduler_at(Case(name, "flow"), 3, own_sigmas=True))
    with pytest.raises(DiffusionError, match=f"sampler='{name}': must be flow_euler or flow_heun"):
        find_sampler(name).trajectory(FlowSchedule(), Spacing(), 3)


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
    name: str, config: dict[str, Any], schedule: FlowSchedule, sigma_schedule: str
) -> None:
    # the linear interpolation that FluxPipeline makes of its config's four fields
    mu = 0.5 + (1.15 - 0.5) / (4096 - 256) * (IMAGE_TOKENS - 256)
    for steps in STEPS:
        for start in {0, 1, steps // 2, steps - 1} & set(range(steps)):
            scheduler = ROWS[name].make(**config)
            scheduler.set_timesteps(steps, **({"mu": mu} if schedule.dynamic else {}))
            theirs = through_diffusers(scheduler, start)
            trajectory = find_sampler(name).trajectory(
                schedule, Spacing(), steps, sigma_schedule=sigma_schedule, image_tokens=IMAGE_TOKENS
            )
            ours = through_ours(Case(name, "flow"), trajectory.starting_at(start))
            assert_equal_walks(ours, theirs, f"{name} {config} steps={steps} start={start}")
