"""The noise schedule: its tables, and what it refuses."""

from dataclasses import replace

import numpy as np
import pytest
from diffusers import DDIMScheduler
from numpy.testing import assert_allclose, assert_array_equal

from diffusion.errors import DiffusionError, UnknownNameError
from diffusion.schedule import BetaSchedule, NoiseSchedule

SCHEDULES: tuple[BetaSchedule, ...] = ("linear", "scaled_linear", "squaredcos_cap_v2")


@pytest.mark.parametrize("zero_snr", [False, True])
@pytest.mark.parametrize("kind", SCHEDULES)
def test_table_is_that_of_diffusers(kind: BetaSchedule, zero_snr: bool) -> None:
    ours = NoiseSchedule(1000, kind, 0.00085, 0.012, zero_snr).alphas_cumprod
    theirs = DDIMScheduler(
        beta_schedule=kind, beta_start=0.00085, beta_end=0.012, rescale_betas_zero_snr=zero_snr
    ).alphas_cumprod.numpy()
    assert_allclose(ours, theirs, rtol=5e-5 if zero_snr else 1e-6, atol=0)
    assert_allclose(ours, theirs, rtol=0, atol=5e-7)


def test_sigma_is_the_ratio_of_noise_to_signal() -> None:
    schedule = NoiseSchedule()
    signal = schedule.alphas_cumprod
    assert_allclose(schedule.sigmas**2, (1 - signal) / signal, rtol=1e-6)
    assert (np.diff(schedule.sigmas) > 0).all()


def test_zero_terminal_snr_ends_in_noise_and_keeps_the_first_timestep() -> None:
    plain = NoiseSchedule(beta_schedule="scaled_linear")
    rescaled = replace(plain, rescale_betas_zero_snr=True)
    assert rescaled.alphas_cumprod[-1] == 0
    assert np.isinf(rescaled.sigmas[-1])
    assert np.isfinite(rescaled.sigmas[:-1]).all()
    assert_allclose(rescaled.alphas_cumprod[0], plain.alphas_cumprod[0], rtol=1e-6)


def test_tables_are_made_once_and_cannot_be_written() -> None:
    schedule = NoiseSchedule()
    assert schedule.sigmas is schedule.sigmas
    with pytest.raises(ValueError, match="read-only"):
        schedule.sigmas[0] = 1
    with pytest.raises(ValueError, match="read-only"):
        schedule.alphas_cumprod[0] = 1


def test_equal_fields_give_equal_schedules() -> None:
    assert NoiseSchedule() == NoiseSchedule()
    assert_array_equal(NoiseSchedule().sigmas, NoiseSchedule().sigmas)


def test_unknown_beta_schedule_lists_the_choices() -> None:
    with pytest.raises(UnknownNameError, match="beta_schedule='cosine': must be one of linear, scaled_linear, square"):
        NoiseSchedule(beta_schedule="cosine")  # type: ignore[arg-type]


@pytest.mark.parametrize("count", [0, 1, -5, 10**9, True, 10.0])
def test_number_of_timesteps_is_checked(count: int) -> None:
    with pytest.raises(DiffusionError, match="num_train_timesteps"):
        NoiseSchedule(num_train_timesteps=count)


@pytest.mark.parametrize("beta", [0.0, 1.0, -0.1, float("nan"), float("inf"), 1e-9])
@pytest.mark.parametrize("field", ["beta_start", "beta_end"])
def test_betas_are_checked(field: str, beta: float) -> None:
    with pytest.raises(DiffusionError, match=field):
        NoiseSchedule(**{field: beta})  # type: ignore[arg-type]


def test_a_schedule_that_drowns_the_signal_is_refused() -> None:
    with pytest.raises(DiffusionError, match=r"beta_end=0\.5: must be less for 1000 timesteps"):
        NoiseSchedule(beta_end=0.5)
