import math

import numpy as np
import pytest
import torch

from components.messages import FloatArray
from pipeline.prompts.emphasis import blended, moved_from_empty, scaled, share_without

RNG = np.random.default_rng(0)
HIDDEN = RNG.standard_normal((3, 5, 4), np.float32) + np.float32(0.2)
WEIGHTS = np.array([[1, 1.5, 0.5, 1, 1], [1, 1, 1, 1, 1], [1, -2, 0, 3, 1]], np.float32)


def a1111(chunk: FloatArray, weights: FloatArray) -> torch.Tensor:
    """The published formula on one chunk, in double precision."""
    z = torch.tensor(chunk, dtype=torch.float64)
    weighed = z * torch.tensor(weights, dtype=torch.float64)[:, None]
    return weighed * (z.mean() / weighed.mean())


def test_each_chunk_is_scaled_and_gets_its_mean_back() -> None:
    ours = scaled(HIDDEN, WEIGHTS)
    expected = torch.stack([a1111(*pair) for pair in zip(HIDDEN, WEIGHTS, strict=True)])
    np.testing.assert_allclose(ours, expected.numpy(), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(ours.mean((1, 2)), HIDDEN.mean((1, 2)), rtol=1e-3)
    assert ours[1].tobytes() == HIDDEN[1].tobytes(), "a chunk of ones stays as it is"
    assert ours.dtype == np.float32


def test_a_mean_of_0_is_not_restored() -> None:
    hidden = np.ones((1, 2, 3), np.float32)
    np.testing.assert_array_equal(scaled(hidden, np.array([[1, -1]], np.float32)), [[[1] * 3, [-1] * 3]])


def test_tokens_move_from_the_empty_prompt() -> None:
    empty = RNG.standard_normal((1, 5, 4), np.float32)
    ours = moved_from_empty(HIDDEN, empty, WEIGHTS)
    np.testing.assert_allclose(ours[0, 1], 1.5 * HIDDEN[0, 1] - 0.5 * empty[0, 1], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(ours[2, 2], empty[0, 2])
    np.testing.assert_array_equal(ours[WEIGHTS == 1], HIDDEN[WEIGHTS == 1])


@pytest.mark.parametrize(("weight", "share"), [(1.0, 0.0), (0.5, 1.0), (2 / 3, 1 / math.sqrt(3))])
def test_the_share_of_what_is_without_a_part(weight: float, share: float) -> None:
    assert share_without(weight) == pytest.approx(share)


@pytest.mark.parametrize("weight", [0.0, -3.0])
def test_a_part_of_no_weight_is_all_but_gone(weight: float) -> None:
    first, second = HIDDEN[:1], HIDDEN[1:2]
    np.testing.assert_allclose(blended([first, second], [1.0, share_without(weight)]), second, atol=1e-4)


def test_a_blend_is_the_mean_by_shares() -> None:
    parts = [HIDDEN[:1], HIDDEN[1:2], HIDDEN[2:]]
    expected = np.average(HIDDEN.astype(np.float64), axis=0, weights=[1, 2, 5])[None]
    np.testing.assert_allclose(blended(parts, [1, 2, 5]), expected, rtol=1e-5, atol=1e-6)
    assert blended(parts[:1], [1.0]).tobytes() == parts[0].tobytes()
