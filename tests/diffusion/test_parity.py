"""Equality with diffusers where a config says little or much: absent fields, offsets, long walks, refusals."""

from dataclasses import replace
from itertools import product

import pytest

from diffusion.errors import DiffusionError
from diffusion.spacing import TimestepSpacing
from tests.diffusion.parity import QUIET, assert_equal_walks, scheduler_at, through_diffusers, through_ours
from tests.diffusion.parity_cases import BETA_SAMPLERS, ROWS, Case
from tests.diffusion.test_parity_table import BETAS, assert_parity

pytestmark = QUIET


@pytest.mark.parametrize("name", BETA_SAMPLERS)
def test_absent_fields_stand_for_what_they_do_in_diffusers(name: str) -> None:
    # PNDM's default of set_alpha_to_one is another than DDIM's: exporters write the field out
    absent = None if name != "pndm" else True
    case = Case(name, timestep_spacing=None, alpha_to_one=absent)
    for steps in (1, 7, 33):
        assert_parity(case, steps)


@pytest.mark.parametrize("name", [name for name in BETA_SAMPLERS if "trailing" in ROWS[name].spacings])
def test_an_offset_moves_leading_timesteps(name: str) -> None:
    # not the cosine's first step, from sigma 20,000: test_parity_table.py
    for prediction, beta in product(ROWS[name].predictions[:2], BETAS[:2]):
        for steps in (1, 7, 33):
            assert_parity(Case(name, prediction, beta, offset=1, eta=ROWS[name].etas[-1]), steps)


@pytest.mark.parametrize("spacing", ROWS["pndm"].spacings)
@pytest.mark.parametrize("prediction", ROWS["pndm"].predictions)
def test_pndm_begins_with_runge_kutta_steps(prediction: str, spacing: TimestepSpacing) -> None:
    for beta, to_one in product(BETAS, (False, True)):
        case = Case("pndm", prediction, beta, spacing, alpha_to_one=to_one, skip_prk_steps=False)
        for steps in (4, 5, 10, 25, 50):
            assert_parity(case, steps)


def test_too_few_steps_for_a_runge_kutta_start_or_a_start_amid_it() -> None:
    case = Case("pndm", skip_prk_steps=False)
    with pytest.raises(ValueError, match="could not be broadcast"):
        scheduler_at(case, 3)
    with pytest.raises(DiffusionError, match=r"steps=3: must be at least 4 where .* skip_prk_steps is false"):
        case.trajectory(3)
    with pytest.raises(DiffusionError, match=r"step=1: must be 0 where .* skip_prk_steps is false"):
        case.trajectory(4).starting_at(1)


@pytest.mark.parametrize("steps", [16, 30, 48, 61, 999, 1000])
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("name", ["ddim", "euler"])
def test_long_walks_visit_the_timesteps_of_diffusers(name: str, spacing: TimestepSpacing, steps: int) -> None:
    case = Case(name, timestep_spacing=spacing)
    scheduler = case.scheduler()
    scheduler.set_timesteps(steps)
    theirs = [float(timestep) for timestep in scheduler.timesteps]
    if spacing == "trailing" and steps == 61:
        # a 62nd step, by float error in a range: it indexes the noisiest timestep after the cleanest
        assert theirs.pop() == -1.0
    assert [step.timestep for step in case.trajectory(steps).steps] == theirs


@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("name", ["ddim", "euler"])
def test_long_walks_end_where_diffusers_ends(name: str, spacing: TimestepSpacing) -> None:
    case = Case(name, "v_prediction", timestep_spacing=spacing)
    ours, theirs = through_ours(case, case.trajectory(250)), through_diffusers(scheduler_at(case, 250))
    assert ours.timesteps == theirs.timesteps
    assert_equal_walks(ours, theirs, case.name)


def test_refuses_a_timestep_that_was_never_trained() -> None:
    case = Case("ddim", offset=1)
    with pytest.raises(IndexError):
        through_diffusers(scheduler_at(case, 1000))
    with pytest.raises(DiffusionError, match=r"steps_offset=1: must be at most 0 for 1000 steps"):
        case.trajectory(1000)
    # diffusers' Euler goes on and tells the network 1000; we refuse that too
    euler = replace(case, sampler="euler")
    assert through_diffusers(scheduler_at(euler, 1000, own_sigmas=True)).timesteps[0] == 1000
    with pytest.raises(DiffusionError, match="steps_offset"):
        euler.trajectory(1000)
