"""Spacing: the three ways to spread timesteps."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffusion.errors import DiffusionError, UnknownNameError
from diffusion.spacing import Spacing, TimestepSpacing, spaced_timesteps


@pytest.mark.parametrize(
    ("spacing", "offset", "expected"),
    [
        ("leading", 0, [750, 500, 250, 0]),
        ("leading", 1, [751, 501, 251, 1]),
        ("trailing", 1, [999, 749, 499, 249]),
        ("linspace", 1, [999, 666, 333, 0]),
    ],
)
def test_four_of_a_thousand(spacing: TimestepSpacing, offset: int, expected: list[float]) -> None:
    assert spaced_timesteps(spacing, 4, 1000, offset).tolist() == expected


@given(st.sampled_from(["leading", "trailing", "linspace"]), st.integers(1, 1000))
def test_falls_from_trained_timestep_to_trained_timestep(spacing: TimestepSpacing, steps: int) -> None:
    timesteps = spaced_timesteps(spacing, steps, 1000, 0).tolist()
    assert len(timesteps) == steps
    assert all(0 <= timestep <= 999 for timestep in timesteps)
    assert timesteps == sorted(set(timesteps), reverse=True)


def test_unknown_names_list_the_choices() -> None:
    with pytest.raises(UnknownNameError, match="timestep_spacing='even': must be one of leading, linspace, trailing"):
        Spacing("even")  # type: ignore[arg-type]
    with pytest.raises(UnknownNameError, match="final_sigmas_type='one': must be one of sigma_min, zero"):
        Spacing(final_sigmas_type="one")  # type: ignore[arg-type]
    with pytest.raises(UnknownNameError, match="interpolation_type='cubic': must be one of linear, log_linear"):
        Spacing(interpolation_type="cubic")  # type: ignore[arg-type]


def test_offset_is_not_negative() -> None:
    with pytest.raises(DiffusionError, match="steps_offset=-1"):
        Spacing(steps_offset=-1)
