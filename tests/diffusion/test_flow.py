"""The noise of flow matching: shifts, and what is refused."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from diffusion.errors import DiffusionError, UnknownNameError
from diffusion.flow import DynamicShift, FlowSchedule
from diffusion.noise import noise
from diffusion.samplers import find_sampler
from diffusion.spacing import Spacing


def test_without_shift_sigmas_are_even() -> None:
    assert_allclose(FlowSchedule().sigmas(4, None), np.linspace(1, 0.001, 4))


def test_a_shift_leaves_the_start_and_adds_noise_between() -> None:
    plain, shifted = FlowSchedule().sigmas(10, None), FlowSchedule(shift=3.0).sigmas(10, None)
    assert plain[0] == shifted[0] == 1
    assert (shifted[1:] > plain[1:]).all()


def test_a_dynamic_shift_grows_with_the_picture() -> None:
    schedule = FlowSchedule(dynamic=DynamicShift())
    small, large = schedule.sigmas(10, 256), schedule.sigmas(10, 4096)
    assert (large[1:] > small[1:]).all()
    sigma = np.linspace(1, 0.001, 10)
    assert_allclose(small, np.exp(0.5) / (np.exp(0.5) + 1 / sigma - 1))


def test_timesteps_are_a_multiple_of_sigma_and_the_walk_ends_clean() -> None:
    trajectory = find_sampler("flow_euler").trajectory(FlowSchedule(shift=3.0), Spacing(), 5)
    assert trajectory.steps[0].sigma == trajectory.initial_deviation == 1
    assert trajectory.steps[-1].sigma_next == 0
    assert [step.timestep for step in trajectory.steps] == pytest.approx([1000 * s.sigma for s in trajectory.steps])


def test_a_later_start_mixes_noise_and_clean() -> None:
    trajectory = find_sampler("flow_euler").trajectory(FlowSchedule(), Spacing(), 5).starting_at(2)
    clean, added = noise(1, 0, (1, 2)), noise(2, 0, (1, 2))
    sigma = trajectory.steps[0].sigma
    assert_allclose(trajectory.noised(clean, added), (1 - sigma) * clean + sigma * added, rtol=1e-6)
    with pytest.raises(DiffusionError, match="noise="):
        trajectory.noised(clean, noise(2, 0, (2, 2)))


def test_values_are_checked() -> None:
    with pytest.raises(DiffusionError, match="shift=0"):
        FlowSchedule(shift=0.0)
    with pytest.raises(DiffusionError, match="num_train_timesteps=1"):
        FlowSchedule(num_train_timesteps=1)
    with pytest.raises(UnknownNameError, match="time_shift_type='cubic': must be one of exponential, linear"):
        DynamicShift(time_shift_type="cubic")  # type: ignore[arg-type]
    with pytest.raises(DiffusionError, match="max_image_seq_len=256"):
        DynamicShift(max_image_seq_len=256)
    with pytest.raises(DiffusionError, match="image_tokens=None: must be given where the flow shift is dynamic"):
        FlowSchedule(dynamic=DynamicShift()).sigmas(4, None)
    with pytest.raises(UnknownNameError, match="schedule='simple': must be one of beta, default, exponential, karras"):
        find_sampler("flow_euler").trajectory(FlowSchedule(), Spacing(), 4, sigma_schedule="simple")
