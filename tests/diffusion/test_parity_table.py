"""Equality with diffusers for every sampler of the table, in every combination that its scheduler has fields for."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import product

import pytest

from diffusion.errors import DiffusionError
from diffusion.samplers import SAMPLERS
from diffusion.schedule import BetaSchedule
from diffusion.sigma_schedules import DEFAULT, SIGMA_SCHEDULES
from diffusion.spacing import FinalSigma
from diffusion.trajectory import Trajectory
from tests.diffusion.parity import (
    QUIET,
    assert_equal_walks,
    brownian_path,
    scheduler_at,
    through_diffusers,
    through_ours,
)
from tests.diffusion.parity_cases import BETA_SAMPLERS, ROWS, STEPS, Case

pytestmark = QUIET

QUICK_STEPS = (1, 2, 3, 5, 16)
BETAS: tuple[BetaSchedule, ...] = ("linear", "scaled_linear", "squaredcos_cap_v2")

# diffusers has no scheduler for it: test_samplers_by_paper.py
BY_PAPER = ("dpmpp_2s_ancestral",)
# nor a field for these: test_sigma_schedules.py
BY_DEFINITION = ("sgm_uniform", "simple", "align_your_steps", "align_your_steps_sdxl")


def test_every_sampler_and_every_sigma_schedule_has_a_row() -> None:
    assert set(SAMPLERS) == {*ROWS, *BY_PAPER}
    held = {schedule for row in ROWS.values() for schedule in row.schedules}
    assert set(SIGMA_SCHEDULES) == {DEFAULT, *held, *BY_DEFINITION}


def rounds_it_away(case: Case) -> bool:
    """DEIS and PNDM from the cosine's sigma of 20,000: float32 leaves diffusers three digits, and float64 leaves all.

    test_what_float32_costs_diffusers shows that it is their rounding and not ours.
    """
    predictions = {"deis": ("v_prediction", "sample"), "pndm": ("v_prediction",)}.get(case.sampler, ())
    return case.cosine and case.prediction_type in predictions


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


def leaves_rounding_alone(case: Case, trajectory: Trajectory) -> bool:
    """DDIM at eta 1 from a first alpha near 0: 1 - alpha_prev - variance is what rounding leaves.

    diffusers takes its root. Where the alpha is exactly 0 it may lie below 0, in float64 too.
    """
    return case.sampler == "ddim" and case.eta == 1 and trajectory.steps[0].sigma > 1e4


def assert_parity(case: Case, steps: int, start: int = 0) -> None:
    label = f"{case.name} steps={steps} start={start}"
    trajectory = case.trajectory(steps).starting_at(start)
    if never_moves(case, steps):
        sigmas = scheduler_at(case, steps, own_sigmas=True).sigmas
        assert sigmas[0] == sigmas[1], label
        assert through_ours(case, trajectory).finite, label
        return
    scheduler = scheduler_at(case, steps)
    draw = brownian_path(scheduler, trajectory) if case.sampler == "dpmpp_sde" else None
    rounding_alone = leaves_rounding_alone(case, trajectory)
    wide = rounds_it_away(case) or (rounding_alone and not case.zero_snr)
    theirs = through_diffusers(scheduler, start, case.eta, wide)
    if divides_by_no_signal(case, trajectory):
        assert not theirs.finite, label
        with pytest.raises(DiffusionError, match=r"prediction_type='epsilon'.*zero terminal SNR"):
            through_ours(case, trajectory)
        return
    ours = through_ours(case, trajectory, draw)
    if divides_by_the_step(case, trajectory):
        assert not theirs.finite, label
        assert ours.finite, label
        return
    if rounding_alone and case.zero_snr and not theirs.finite:
        assert ours.finite, label
        case = replace(case, eta=0.999)
        theirs, ours = through_diffusers(scheduler_at(case, steps), start, 0.999), through_ours(case, trajectory)
    assert_equal_walks(ours, theirs, label)


def quick_cases() -> Iterator[Case]:
    for name in BETA_SAMPLERS:
        row = ROWS[name]
        for prediction, spacing in product(row.predictions, row.spacings):
            yield Case(name, prediction, timestep_spacing=spacing)
        for schedule in row.schedules:
            yield Case(name, "v_prediction", timestep_spacing="linspace", schedule=schedule)
        for prediction in row.predictions:
            yield Case(name, prediction, "squaredcos_cap_v2", row.spacings[-1])
        if row.has("rescale_betas_zero_snr"):
            yield Case(name, "v_prediction", timestep_spacing=row.spacings[-1], zero_snr=True)
        if row.etas == (None,):
            final: FinalSigma | None = "sigma_min" if row.has("final_sigmas_type") else None
            yield Case(name, offset=1, final=final, alpha_to_one=not row.has("set_alpha_to_one"))
        yield from (Case(name, eta=eta) for eta in (0.0, 0.5, 1.0) if row.etas != (None,))


def all_cases(name: str) -> Iterator[Case]:
    row = ROWS[name]
    finals: tuple[FinalSigma | None, ...] = ("zero", "sigma_min") if row.has("final_sigmas_type") else (None,)
    fields = product(
        row.predictions,
        BETAS,
        row.spacings,
        (DEFAULT, *row.schedules),
        (False, True) if row.has("rescale_betas_zero_snr") else (False,),
        finals,
        (False, True) if row.has("set_alpha_to_one") else (True,),
        (0,),
        row.etas,
    )
    yield from (Case(name, *values) for values in fields)


@pytest.mark.parametrize("case", list(quick_cases()), ids=lambda case: case.name)
def test_walks_as_diffusers_does(case: Case) -> None:
    for steps in QUICK_STEPS:
        assert_parity(case, steps)


@pytest.mark.slow
@pytest.mark.parametrize("name", BETA_SAMPLERS)
def test_every_combination_walks_as_diffusers_does(name: str) -> None:
    for case, steps in product(all_cases(name), STEPS):
        assert_parity(case, steps)


@pytest.mark.parametrize("name", BETA_SAMPLERS)
def test_starts_at_any_step(name: str) -> None:
    row = ROWS[name]
    for prediction, schedule in product(row.predictions[:2], (DEFAULT, *row.schedules[:1])):
        case = Case(name, prediction, timestep_spacing=row.spacings[0], schedule=schedule)
        for steps, start in ((2, 1), (5, 1), (5, 2), (5, 3), (5, 4)):
            assert_parity(case, steps, start)


@pytest.mark.slow
@pytest.mark.parametrize("name", BETA_SAMPLERS)
def test_every_combination_starts_at_any_step(name: str) -> None:
    row = ROWS[name]
    for prediction, spacing, schedule in product(row.predictions, row.spacings, (DEFAULT, *row.schedules)):
        case = Case(name, prediction, timestep_spacing=spacing, schedule=schedule, eta=row.etas[-1])
        for steps in (3, 10, 25):
            for start in range(1, steps):
                assert_parity(case, steps, start)
