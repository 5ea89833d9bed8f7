"""Inpainting: the loop of diffusers' pipeline around its schedulers, and what holds whatever the sampler."""

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FlowMatchHeunDiscreteScheduler

from diffusion.arrays import Array
from diffusion.drive import run
from diffusion.errors import DiffusionError
from diffusion.flow import FlowSchedule
from diffusion.inpainting import Mask, inpaint
from diffusion.noise import noise
from diffusion.prediction import find_prediction
from diffusion.samplers import SAMPLERS, Query, Sampler, find_sampler
from diffusion.spacing import Spacing
from diffusion.trajectory import Trajectory
from tests.diffusion.parity import QUIET, SHAPE, Noise, brownian_path, network, scheduler_at
from tests.diffusion.parity_cases import ROWS, Case

pytestmark = QUIET

CLEAN, FIRST = noise(6, 0, SHAPE), noise(5, 0, SHAPE)
MASK: Mask = np.arange(16).reshape(4, 4) % 5 < 2
ALL, NONE = np.ones((4, 4), np.bool_), np.zeros((4, 4), np.bool_)
FLOWS = {"flow_euler": FlowMatchEulerDiscreteScheduler, "flow_heun": FlowMatchHeunDiscreteScheduler}
PREDICTION = "v_prediction"


def seeing(x: Array, timestep: float) -> Array:
    """A network that sees all pixels from each one: what is outside the mask shows inside."""
    around: Array = x.mean(axis=(2, 3), keepdims=True)
    return network(x - np.float32(2) * around, timestep, 0.5)


def through_diffusers(scheduler: Any, left_out: int, mask: Mask, eta: float | None) -> Array:
    """Steps 6 and 10 of StableDiffusionInpaintPipeline, a flow's as in StableDiffusion3InpaintPipeline."""
    first = left_out * scheduler.order
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(first)
    timesteps = scheduler.timesteps[first:]
    clean, initial = torch.from_numpy(CLEAN), torch.from_numpy(FIRST)

    def noised(timestep: torch.Tensor) -> torch.Tensor:
        if hasattr(scheduler, "scale_noise"):
            at = timestep if scheduler.order == 2 else timestep[None]
            mixed: torch.Tensor = scheduler.scale_noise(clean, at, initial)
            return mixed
        added: torch.Tensor = scheduler.add_noise(clean, initial, timestep[None])
        return added

    x = initial * getattr(scheduler, "init_noise_sigma", 1.0) if left_out == 0 else noised(timesteps[0])
    anew = torch.from_numpy(mask).to(torch.float32)
    for place, timestep in enumerate(timesteps):
        seen = scheduler.scale_model_input(x, timestep) if hasattr(scheduler, "scale_model_input") else x
        output = torch.from_numpy(seeing(seen.to(torch.float32).numpy(), float(np.float32(float(timestep)))))
        x = scheduler.step(output, timestep, x, return_dict=False, **({} if eta is None else {"eta": eta}))[0]
        proper = noised(timesteps[place + 1]) if place < len(timesteps) - 1 else clean
        x = (1 - anew) * proper + anew * x
    return x.to(torch.float32).numpy()


def drawing(source: Noise) -> Callable[..., torch.Tensor]:
    return lambda *_args, **_kwargs: torch.from_numpy(source())


def started(
    name: str, trajectory: Trajectory, mask: Mask | None, draw: Any = None, eta: float | None = None
) -> Sampler:
    pure = mask is not None and not trajectory.skipped
    x = trajectory.initial_latents(FIRST) if pure else trajectory.noised(CLEAN, FIRST)
    sampler = find_sampler(name).start(x, trajectory, eta, Noise() if draw is None else draw)
    return sampler if mask is None else inpaint(sampler, trajectory, CLEAN, FIRST, mask)


def answer(name: str, query: Query) -> Array:
    row = find_sampler(name)
    prediction = find_prediction("flow" if row.flow else PREDICTION)
    output = seeing(prediction.network_input(query.latents, query.sigma), query.timestep)
    latents: Any = query.latents.astype(np.float64 if row.wide_answers else np.float32)
    return prediction.denoised(output, latents, query.sigma)


def walked(name: str, trajectory: Trajectory, mask: Mask | None, draw: Any = None, eta: float | None = None) -> Array:
    return run(started(name, trajectory, mask, draw, eta), lambda query: answer(name, query))


def trajectory_of(name: str, steps: int) -> Trajectory:
    if SAMPLERS[name].flow:
        return find_sampler(name).trajectory(FlowSchedule(), Spacing(), steps)
    return Case(name, PREDICTION, timestep_spacing="leading").trajectory(steps)


@pytest.mark.parametrize("name", ROWS)
def test_it_blends_as_diffusers_does(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for steps, strength, eta in product((1, 2, 5, 16), (0.3, 0.75, 1.0), ROWS[name].etas):
        whole = trajectory_of(name, steps)
        left_out = int(steps - steps * strength) if whole.flow else steps - int(steps * strength)
        if left_out == steps:
            continue
        trajectory = whole.starting_at(left_out)
        if whole.flow:
            scheduler = FLOWS[name]()
            scheduler.set_timesteps(steps)
        else:
            scheduler = scheduler_at(Case(name, PREDICTION, timestep_spacing="leading"), steps)
        draw = brownian_path(scheduler, trajectory) if name == "dpmpp_sde" else None
        module = next(kind.__module__ for kind in type(scheduler).__mro__ if kind.__module__.startswith("diffusers"))
        monkeypatch.setattr(f"{module}.randn_tensor", drawing(Noise()), raising=False)
        theirs = through_diffusers(scheduler, left_out, MASK, eta)
        ours = walked(name, trajectory, MASK, draw, eta)
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4, err_msg=f"{steps} steps, strength {strength}")
        np.testing.assert_array_equal(ours[..., ~MASK], CLEAN[..., ~MASK])


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_network_sees_what_is_outside(name: str) -> None:
    trajectory = trajectory_of(name, 6).starting_at(2)
    assert np.abs(walked(name, trajectory, MASK) - walked(name, trajectory, ALL))[..., MASK].max() > 1e-3


@pytest.mark.parametrize("name", SAMPLERS)
def test_no_mask_at_all_is_the_picture_and_a_full_one_is_image_to_image(name: str) -> None:
    trajectory = trajectory_of(name, 6).starting_at(2)
    np.testing.assert_array_equal(walked(name, trajectory, NONE), CLEAN)
    np.testing.assert_array_equal(walked(name, trajectory, ALL), walked(name, trajectory, None))


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_estimates_alone_bring_it_to_the_same_place(name: str) -> None:
    trajectory = trajectory_of(name, 5).starting_at(1)
    estimates: list[Array] = []
    final = run(
        started(name, trajectory, MASK),
        lambda query: answer(name, query),
        lambda _number, _query, estimate: estimates.append(estimate),
    )
    assert len(estimates) == trajectory.evaluations
    told = estimates[:2]
    again = run(started(name, trajectory, MASK), lambda query: told.pop(0) if told else answer(name, query))
    np.testing.assert_array_equal(again, final)


def test_the_first_query_is_where_the_walk_starts() -> None:
    trajectory = trajectory_of("euler", 5)
    query = next(started("euler", trajectory, NONE))
    np.testing.assert_array_equal(query.latents, trajectory.initial_latents(FIRST))


def test_it_closes_the_sampler() -> None:
    closed: list[bool] = []

    def endless() -> Sampler:
        try:
            while True:
                yield Query(CLEAN, 1.0, 1.0)
        finally:
            closed.append(True)

    held = inpaint(endless(), trajectory_of("euler", 5), CLEAN, FIRST, MASK)
    next(held)
    held.close()
    assert closed == [True]


@pytest.mark.parametrize(
    ("mask", "first", "words"),
    [
        (MASK.astype(np.float32), FIRST, r"mask='float32 \[4, 4\]': must be bool \[4, 4\]"),
        (MASK[:3], FIRST, r"mask='bool \[3, 4\]'"),
        (MASK[np.newaxis], FIRST, r"mask='bool \[1, 4, 4\]'"),
        (MASK, FIRST[..., :3], "noise="),
    ],
)
def test_shapes_must_agree(mask: Any, first: Array, words: str) -> None:
    trajectory = trajectory_of("euler", 5)
    sampler = find_sampler("euler").start(CLEAN, trajectory)
    with pytest.raises(DiffusionError, match=words):
        inpaint(sampler, trajectory, CLEAN, first, mask)
