"""Names of other systems lead to our samplers and schedules."""

import diffusers
import pytest

from diffusion.errors import UnknownNameError
from diffusion.samplers import SAMPLERS
from diffusion.samplers.aliases import CHOICES, Choice, find_choice, find_schedule_name
from diffusion.sigma_schedules import SIGMA_SCHEDULES


@pytest.mark.parametrize(
    ("name", "choice"),
    [
        ("dpmpp_2m", Choice("dpmpp_2m")),
        ("EulerAncestralDiscreteScheduler", Choice("euler_ancestral")),
        ("Euler a", Choice("euler_ancestral")),
        ("euler A", Choice("euler_ancestral")),
        ("DPM++ 2M Karras", Choice("dpmpp_2m", "karras")),
        ("DPM++ 2M SDE Exponential", Choice("dpmpp_2m_sde", "exponential")),
        ("DPM++ SDE Karras", Choice("dpmpp_sde", "karras")),
        ("uni_pc", Choice("unipc")),
        ("dpm_2_ancestral", Choice("dpm2_ancestral")),
        ("PLMS", Choice("pndm")),
    ],
)
def test_names(name: str, choice: Choice) -> None:
    assert find_choice(name) == choice


def test_every_sampler_and_every_class_is_there() -> None:
    assert {choice.sampler for choice in CHOICES.values()} == set(SAMPLERS)
    assert {choice.schedule for choice in CHOICES.values()} == set(SIGMA_SCHEDULES)
    assert all(hasattr(diffusers, name) for name in CHOICES if name.endswith("Scheduler"))


def test_no_two_names_differ_in_case_alone_and_mean_different_things() -> None:
    for name, choice in CHOICES.items():
        assert find_choice(name) == choice


def test_a_sampler_without_schedules_has_no_name_with_one() -> None:
    with pytest.raises(UnknownNameError, match=r"sampler='PLMS Karras': must be one of ddim, ddpm, .*unipc"):
        find_choice("PLMS Karras")


@pytest.mark.parametrize(
    ("name", "schedule"), [("SGM Uniform", "sgm_uniform"), ("normal", "default"), ("karras", "karras")]
)
def test_schedule_names(name: str, schedule: str) -> None:
    assert find_schedule_name(name) == schedule


def test_an_unknown_schedule_lists_the_choices() -> None:
    with pytest.raises(UnknownNameError, match=r"schedule='turbo': must be one of align_your_steps, .*, simple"):
        find_schedule_name("turbo")
