"""Predictions: each recovers x0 from the exact output, row by row."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from diffusion.arrays import Array
from diffusion.errors import DiffusionError, UnknownNameError
from diffusion.noise import noise
from diffusion.prediction import PREDICTIONS, find_prediction, quarter_log, scale_input
from diffusion.samplers import find_sampler
from diffusion.schedule import NoiseSchedule
from diffusion.spacing import Spacing

SHAPE = (3, 4, 2, 2)
SIGMAS = np.array([0.03, 0.9, 0.4])


def exact(name: str) -> tuple[Array, Array, Array]:
    """Latents at SIGMAS, what a perfect network of this prediction type gives there, and x0."""
    clean, added = noise(1, 0, SHAPE), noise(2, 0, SHAPE)
    sigma = SIGMAS.astype(np.float32).reshape(3, 1, 1, 1)
    alpha = np.reciprocal(np.sqrt(sigma**2 + 1)).astype(np.float32)
    outputs: dict[str, Array] = {
        "epsilon": added,
        "v_prediction": alpha * added - alpha * sigma * clean,
        "sample": clean,
        "flow": added - clean,
    }
    latents = (1 - sigma) * clean + sigma * added if name == "flow" else clean + sigma * added
    return latents, outputs[name], clean


def test_noise_is_told_by_a_quarter_of_its_logarithm() -> None:
    assert [quarter_log(sigma) for sigma in (1.0, np.e**2, np.exp(-1))] == pytest.approx([0, 0.5, -0.25], abs=1e-7)


@pytest.mark.parametrize("name", PREDICTIONS)
def test_exact_output_gives_x0(name: str) -> None:
    latents, output, clean = exact(name)
    denoised = find_prediction(name).denoised(output, latents, SIGMAS)
    assert denoised.dtype == np.float32
    assert_allclose(denoised, clean, atol=2e-6)


@pytest.mark.parametrize("name", PREDICTIONS)
def test_a_row_has_the_same_bits_alone_and_in_a_batch(name: str) -> None:
    prediction = find_prediction(name)
    latents, output, _ = exact(name)
    together = prediction.denoised(output, latents, SIGMAS), prediction.network_input(latents, SIGMAS)
    for row, sigma in enumerate(SIGMAS):
        one = slice(row, row + 1)
        assert_array_equal(prediction.denoised(output[one], latents[one], float(sigma)), together[0][one])
        assert_array_equal(prediction.network_input(latents[one], float(sigma)), together[1][one])


def test_scaled_input_has_unit_variance() -> None:
    latents = noise(1, 0, (1, 4, 64, 64)) + np.float32(5) * noise(2, 0, (1, 4, 64, 64))
    assert scale_input(latents, 5.0).std() == pytest.approx(1, abs=0.02)


def test_flow_network_sees_the_latents_as_they_are() -> None:
    latents = noise(1, 0, SHAPE)
    assert_array_equal(find_prediction("flow").network_input(latents, 0.5), latents)


def test_unknown_prediction_lists_the_choices() -> None:
    with pytest.raises(UnknownNameError, match="'x0': must be one of epsilon, flow, sample, v_prediction"):
        find_prediction("x0")


@pytest.mark.parametrize("sigma", [np.array([1.0, 2.0]), np.ones((3, 1)), float("nan"), float("inf")])
@pytest.mark.parametrize("name", PREDICTIONS)
def test_sigma_is_finite_and_one_for_each_row(name: str, sigma: float) -> None:
    latents, output, _ = exact(name)
    with pytest.raises(DiffusionError, match="sigma"):
        find_prediction(name).denoised(output, latents, sigma)


def test_epsilon_cannot_start_at_zero_terminal_snr() -> None:
    schedule = NoiseSchedule(rescale_betas_zero_snr=True)
    trajectory = find_sampler("ddim").trajectory(schedule, Spacing("trailing"), 4)
    with pytest.raises(DiffusionError, match="prediction_type='epsilon': must be v_prediction or sample"):
        find_prediction("epsilon").check(trajectory)
    find_prediction("epsilon").check(trajectory.starting_at(1))
    find_prediction("v_prediction").check(trajectory)
