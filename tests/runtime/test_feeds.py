from typing import Any

import numpy as np
import pytest

from components.contract import Conditioning, Contract, Kind, LatentSpace, NoiseSchedule, TensorSpec
from runtime.errors import RuntimeFault
from runtime.feeds import feed_differences, output_differences, zero_feeds

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


def _decoder(*pixels: int | str) -> Contract:
    outputs = (TensorSpec(name="pixels", dtype="float32", shape=pixels),)
    return DENOISER.model_copy(update={"kind": Kind.VAE_DECODER, "inputs": DENOISER.inputs[:1], "outputs": outputs})


@pytest.mark.parametrize(
    ("contract", "name", "shape", "promised"),
    [
        (DENOISER, "prediction", (1, 4, 16, 24), None),
        (DENOISER, "prediction", (2, 4, 16, 24), "[1, 4, 16, 24]"),
        (DENOISER, "prediction", (1, 8, 16, 24), "[batch, 4, height, width]"),
        (DENOISER, "prediction", (1, 4, 24, 16), "[1, 4, 16, 24]"),
        (DENOISER, "prediction", (4, 16, 24), "[batch, 4, height, width]"),
        (DENOISER, "prediction", (1, 4, 0, 24), "[batch, 4, height, width]"),
        (_decoder("batch", 3, "height", "width"), "pixels", (1, 3, 128, 192), None),
        (_decoder("batch", 3, "high", "wide"), "pixels", (1, 3, 16, 24), "[1, 3, 128, 192]"),
        (_decoder("batch", 3, 64, 64), "pixels", (1, 3, 64, 64), "[1, 3, 128, 192]"),
        (_decoder("batch", 3, 64, 64), "pixels", (1, 3, 128, 192), "[batch, 3, 64, 64]"),
    ],
)
def test_outputs_are_held_to_what_was_fed(
    contract: Contract, name: str, shape: tuple[int, ...], promised: str | None
) -> None:
    found = [] if promised is None else [f"output {name}: promised {promised}, came {list(shape)}"]
    assert output_differences(zero_feeds(contract), {name: np.zeros(shape, np.float32)}, contract) == found


def test_a_text_encoders_rows_are_those_of_its_texts() -> None:
    contract = Contract(
        kind=Kind.TEXT_ENCODER,
        inputs=(TensorSpec(name="input_ids", dtype="int64", shape=("batch", "tokens")),),
        outputs=(DENOISER.inputs[2],),
        conditioning=DENOISER.conditioning,
    )
    ids = {"input_ids": np.zeros((2, 32), np.int64)}
    assert output_differences(ids, {"hidden_states": np.zeros((2, 32, 6), np.float32)}, contract) == []
    assert output_differences(ids, {"hidden_states": np.zeros((1, 32, 6), np.float32)}, contract) == [
        "output hidden_states: promised [2, tokens, 6], came [1, 32, 6]"
    ]


def test_two_gigabytes_of_zeros_are_one_fault_though_memory_is_lent_without_question() -> None:
    latents = TensorSpec(name="latents", dtype="float32", shape=("batch", 4, 2**27, "one"))
    with pytest.raises(RuntimeFault, match=r"latents \[1, 4, 134217728, 1\]: must fit into 1073741824 bytes"):
        zero_feeds(DENOISER.model_copy(update={"inputs": (latents,)}))


def test_zeros_that_the_machine_cannot_give_are_one_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(np, "zeros", no_memory)
    with pytest.raises(RuntimeFault, match=r"denoiser: warming up takes latents \[1, 4, 16, 24\], timestep \[1\], "):
        zero_feeds(DENOISER)
