"""Tracks that start from a picture: what they draw, keep and refuse, and that they go on from a snapshot."""

import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from components.folder import ComponentFolder
from components.messages import Snapshot
from diffusion.noise import noise, slerp
from diffusion.samplers import SAMPLERS, Draw, Sampler, find_sampler
from diffusion.trajectory import Trajectory
from pipeline.denoiser import Denoiser
from pipeline.errors import RequestError
from tests.pipeline.conftest import F32
from tests.pipeline.test_denoiser import CPU, MASK, SHAPE, job

NONE = np.zeros(SHAPE, np.float32)


@pytest.fixture(scope="module")
def denoiser(bundle: Path) -> Denoiser:
    return Denoiser(ComponentFolder.open(bundle / "denoiser"), CPU)


@pytest.mark.parametrize("sampler", [name for name, row in SAMPLERS.items() if not row.flow])
@pytest.mark.parametrize("strength", [0.6, 1.0])
def test_an_edit_goes_on_from_a_snapshot_with_the_same_bytes(denoiser: Denoiser, sampler: str, strength: float) -> None:
    edit = {"image_latents": noise(1, 0, SHAPE), "mask": MASK, "strength": strength}
    whole = job(3, sampler=sampler, steps=5, eta=SAMPLERS[sampler].eta, **edit)
    undisturbed = denoiser.begin(whole)
    estimates: list[F32] = []
    while not undisturbed.done:
        denoiser.advance([undisturbed])
        assert undisturbed.estimate is not None
        estimates.append(undisturbed.estimate)
    assert len(estimates) == undisturbed.evaluations
    for told in (0, 1, len(estimates) - 1, len(estimates)):
        copies = pickle.loads(pickle.dumps((whole, Snapshot(tuple(estimates[:told])))))
        track = denoiser.begin(*copies)
        while not track.done:
            denoiser.advance([track])
        assert track.latents.tobytes() == undisturbed.latents.tobytes()


def test_the_draws_of_an_edit_are_in_the_order_of_diffusers(
    denoiser: Denoiser, monkeypatch: pytest.MonkeyPatch
) -> None:
    row, drawn = find_sampler("ddim"), []

    def start(latents: F32, trajectory: Trajectory, eta: float, draw: Draw) -> Sampler:
        drawn.extend([latents, draw()])
        return row.start(latents, trajectory, eta)

    monkeypatch.setattr(
        "pipeline.denoiser.find_sampler", lambda _name: SimpleNamespace(start=start, wide_answers=False)
    )
    clean = noise(1, 0, SHAPE)
    sigma = denoiser._trajectories.lay_out("ddim", 5, "default", strength=0.6).steps[0].sigma
    # draw 0 sampled the picture's latents; with a mask draw 2 those of the masked picture
    for mask, later in ((None, 2), (MASK, 3)):
        drawn.clear()
        denoiser.begin(job(0, seed=5, image_latents=clean, mask=mask, strength=0.6))
        np.testing.assert_allclose(drawn[0], clean + sigma * noise(5, 1, SHAPE), rtol=1e-5)
        np.testing.assert_array_equal(drawn[1], noise(5, later, SHAPE))


def test_outside_the_mask_the_pictures_latents_stay(denoiser: Denoiser) -> None:
    clean = noise(1, 0, SHAPE)
    for strength in (0.3, 1.0):
        latents = denoiser.denoise(job(0, image_latents=clean, mask=MASK, strength=strength))
        np.testing.assert_array_equal(latents[..., ~MASK], clean[..., ~MASK])
        assert np.abs(latents - clean)[..., MASK].min() > 0


def test_progress_and_guidance_are_those_of_the_steps_that_are_walked(denoiser: Denoiser) -> None:
    track = denoiser.begin(job(0, image_latents=noise(1, 0, SHAPE), strength=0.4, steps=10, guidance_end=0.5))
    rows = []
    while not track.done:
        rows.append((track.step, track.rows))
        denoiser.advance([track])
    assert (track.steps, rows) == (4, [(0, 2), (1, 2), (2, 1), (3, 1)])


def test_a_subseed_varies_the_noise_and_not_the_picture(denoiser: Denoiser) -> None:
    clean = noise(1, 0, SHAPE)
    varied = job(5, image_latents=clean, strength=0.6, subseed=8, subseed_strength=0.5, sampler="euler")
    sigma = denoiser._trajectories.lay_out("euler", 5, "default", strength=0.6).steps[0].sigma
    expected = clean + np.float32(sigma) * slerp(noise(5, 1, SHAPE), noise(8, 1, SHAPE), 0.5)
    np.testing.assert_allclose(denoiser.begin(varied).query.latents, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"strength": 0.5}, "strength=0.5: must be 1 without image latents"),
        ({"mask": MASK}, "mask=[8, 8]: must be left out without image latents"),
        ({"image_latents": NONE, "strength": 0.1}, "strength=0.1: must be at least 1/5 for 5 steps"),
        (
            {"image_latents": NONE.astype(np.float64)},
            "image_latents='float64 [1, 4, 8, 8]': must be float32 [1, 4, 8, 8]",
        ),
        ({"image_latents": NONE[..., 1:]}, "image_latents='float32 [1, 4, 8, 7]'"),
        ({"image_latents": NONE, "mask": MASK[:4]}, "mask='bool [4, 8]': must be bool [8, 8]"),
        ({"image_latents": NONE, "mask": MASK * 1.0}, "mask='float64 [8, 8]'"),
    ],
)
def test_an_edit_that_does_not_fit_is_refused(denoiser: Denoiser, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(RequestError) as caught:
        denoiser.begin(job(0, **changes))
    assert words in str(caught.value)
    assert caught.value.field in changes
