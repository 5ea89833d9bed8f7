"""The CPU's noise against torch itself."""

import numpy as np
import pytest
import torch

from diffusion.mersenne import MersenneTwister, TorchNormals, double_uniforms, single_uniforms

SEEDS = [0, 1, 42, 2**32 - 1, 2**32, 2**32 + 1, 2**63 - 1, *np.random.default_rng(0).integers(0, 2**63, 12).tolist()]
SIZES = [*range(1, 65), 100, 1023, 1024, 16385]


def generator(seed: int) -> torch.Generator:
    return torch.Generator("cpu").manual_seed(seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_uniforms_are_torchs_bit_for_bit(seed: int) -> None:
    words = MersenneTwister(seed).words(0, 3000)
    single, double = (
        torch.rand(3000, generator=generator(seed)),
        torch.rand(1500, generator=generator(seed), dtype=torch.float64),
    )
    np.testing.assert_array_equal(single_uniforms(words), single.numpy(), strict=True)
    np.testing.assert_array_equal(double_uniforms(words), double.numpy(), strict=True)


def test_words_are_the_same_from_anywhere_in_any_order() -> None:
    words = MersenneTwister(5).words(0, 5000)
    twister = MersenneTwister(5)
    for start, count in [(0, 10), (10, 700), (4000, 3), (3, 1), (4003, 997), (2, 0), (623, 2)]:
        np.testing.assert_array_equal(twister.words(start, count), words[start : start + count])


@pytest.mark.parametrize("seed", SEEDS)
def test_successive_draws_of_every_size_are_torchs(seed: int) -> None:
    for size in SIZES:
        torchs, ours = generator(seed), TorchNormals(seed, size)
        for number in range(5):
            drawn = ours.draw(number)
            assert drawn.dtype == np.float32
            expected = torch.randn(size, generator=torchs).numpy()
            np.testing.assert_allclose(drawn, expected, rtol=0, atol=5e-7, err_msg=f"size {size}, draw {number}")


@pytest.mark.parametrize("size", [5, 15, 16, 29, 256])
def test_draws_out_of_turn_are_those_in_turn(size: int) -> None:
    in_turn, mixed = TorchNormals(9, size), TorchNormals(9, size)
    expected = [in_turn.draw(number) for number in range(8)]
    for number in (7, 0, 3, 3, 4, 1, 6):
        np.testing.assert_array_equal(mixed.draw(number), expected[number])


def test_the_tails_are_torchs() -> None:
    torchs, ours = generator(123), TorchNormals(123, 2**21)
    for number in range(2):
        expected = torch.randn(2**21, generator=torchs).numpy()
        assert np.abs(expected).max() > 4.9
        np.testing.assert_allclose(ours.draw(number), expected, rtol=0, atol=5e-7)
