from typing import Any

import numpy as np
import pytest

from components.contract import Conditioning, Contract, Kind, LatentSpace, NoiseSchedule, TensorSpec
from runtime.feeds import feed_differences, zero_feeds

DENOISER = Contract(
    kind=Kind.DENOISER,
    inputs=(
        TensorSpec(name="latents", dtype="float32", shape=("batch", 4, "height", "width")),
        TensorSpec(name="timestep", dtype="float32", shape=("batch",)),
        TensorSpec(name="hidden_states", dtype="float32", shape=("batch", "tokens", 6)),
    ),
    outputs=(TensorSpec(name="prediction", dtype="float32", shape=("batch", 4, "height", "width")),),
    latent_space=LatentSpace(id="test", channels=4, downscale=8, scaling_factor=1.0),
    conditioning=(Conditioning(name="hidden_states", width=6, tokens=32),),
    noise_schedule=NoiseSchedule(
        prediction_type="epsilon", num_train_timesteps=1000, beta_schedule="linear", beta_start=1e-4, beta_end=0.02
    ),
    latent_size=(16, 24),
)


def test_warm_up_takes_one_row_of_the_size_it_was_made_for() -> None:
    feeds = zero_feeds(DENOISER)
    shapes = {name: array.shape for name, array in feeds.items()}
    assert shapes == {"latents": (1, 4, 16, 24), "timestep": (1,), "hidden_states": (1, 32, 6)}
    assert feed_differences(feeds, DENOISER) == []


def test_a_vae_encoder_is_warmed_up_in_pixels() -> None:
    spec = TensorSpec(name="pixels", dtype="float32", shape=("batch", 3, "height", "width"))
    encoder = DENOISER.model_copy(update={"kind": Kind.VAE_ENCODER, "inputs": (spec,)})
    assert zero_feeds(encoder)["pixels"].shape == (1, 3, 128, 192)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"timestep": np.zeros(1)}, ["input timestep: is float64, must be float32"]),
        ({"timestep": np.zeros((), np.float32)}, ["input timestep: has shape [], must be [batch]"]),
        ({"timestep": np.zeros(2, np.float32)}, ["inputs of 1 and 2 rows in one run"]),
        (
            {"latents": np.zeros((1, 3, 8, 8), np.float32)},
            ["input latents: has shape [1, 3, 8, 8], must be [batch, 4, height, width]"],
        ),
        (
            {"latents": np.zeros((1, 4, 0, 8), np.float32)},
            ["input latents: has shape [1, 4, 0, 8], must be [batch, 4, height, width]"],
        ),
        ({"sample": np.zeros(1)}, ["input sample: unknown"]),
    ],
)
def test_every_breach_is_named(change: dict[str, Any], found: list[str]) -> None:
    assert feed_differences({**zero_feeds(DENOISER), **change}, DENOISER) == found
