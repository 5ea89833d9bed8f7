"""Noise is a function of source, seed, draw number and shape."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from diffusion.errors import DiffusionError
from diffusion.noise import DEFAULT_RNG, LARGEST_DRAW, LARGEST_SEED, SOURCES, NoiseSource, noise, slerp

SOURCE_NAMES = sorted(SOURCES)


@pytest.mark.parametrize("rng", SOURCE_NAMES)
@given(seed=st.integers(0, LARGEST_SEED), draw=st.integers(0, 50))
def test_the_same_numbers_give_the_same_noise(rng: str, seed: int, draw: int) -> None:
    expected = noise(seed, draw, (4, 3, 5), rng)
    np.random.default_rng(0).standard_normal(7)
    source = NoiseSource(seed, (4, 3, 5), rng)
    assert_array_equal(source.draw(0), noise(seed, 0, (4, 3, 5), rng))
    assert_array_equal(source.draw(draw), expected)
    assert expected.shape == (4, 3, 5)


@pytest.mark.parametrize("rng", SOURCE_NAMES)
@given(seed=st.integers(0, LARGEST_SEED - 1), draw=st.integers(0, 50))
def test_neighbours_differ(rng: str, seed: int, draw: int) -> None:
    here = noise(seed, draw, (8,), rng)
    assert not np.array_equal(here, noise(seed + 1, draw, (8,), rng))
    assert not np.array_equal(here, noise(seed, draw + 1, (8,), rng))


@pytest.mark.parametrize("rng", SOURCE_NAMES)
def test_it_is_standard_normal_in_float32(rng: str) -> None:
    drawn = noise(0, 0, (100_000,), rng)
    assert drawn.dtype == np.float32
    assert drawn.mean() == pytest.approx(0, abs=0.02)
    assert drawn.std() == pytest.approx(1, abs=0.02)
    assert (drawn**4).mean() == pytest.approx(3, abs=0.15)


@pytest.mark.parametrize("rng", SOURCE_NAMES)
def test_seeds_and_draws_are_uncorrelated(rng: str) -> None:
    rows = np.stack([noise(seed, draw, (10_000,), rng) for seed in range(3) for draw in range(3)])
    others = np.corrcoef(rows) - np.eye(9)
    assert np.abs(others).max() < 0.05


def test_torch_is_the_default() -> None:
    expected = torch.randn((1, 4, 64, 64), generator=torch.Generator("cpu").manual_seed(42))
    assert_allclose(noise(42, 0, (1, 4, 64, 64)), expected.numpy(), rtol=0, atol=5e-7)
    assert DEFAULT_RNG == "torch"


def test_an_unknown_source_lists_the_choices() -> None:
    with pytest.raises(DiffusionError, match="rng='numpy': must be one of philox, torch"):
        noise(0, 0, (1,), "numpy")


@pytest.mark.parametrize("seed", [-1, LARGEST_SEED + 1, 1.0, True])
def test_seed_is_checked(seed: int) -> None:
    with pytest.raises(DiffusionError, match="seed="):
        noise(seed, 0, (1,))


def test_draw_and_shape_are_checked() -> None:
    for draw in (-1, LARGEST_DRAW + 1):
        with pytest.raises(DiffusionError, match=f"draw={draw}"):
            noise(0, draw, (1,))
    with pytest.raises(DiffusionError, match="shape="):
        noise(0, 0, (4, 0, 8))


LOW, HIGH = noise(1, 0, (1, 4, 12, 10)), noise(2, 0, (1, 4, 12, 10))


@pytest.mark.parametrize("strength", [1e-3, 0.1, 0.5, 0.9])
def test_slerp_is_the_published_formula_in_each_column(strength: float) -> None:
    a, b = torch.from_numpy(LOW).double(), torch.from_numpy(HIGH).double()
    omega = torch.arccos(torch.cosine_similarity(a, b, dim=2)).unsqueeze(2)
    expected = (torch.sin((1 - strength) * omega) * a + torch.sin(strength * omega) * b) / torch.sin(omega)
    assert_allclose(slerp(LOW, HIGH, strength), expected.numpy(), rtol=0, atol=1e-6)


def test_slerp_keeps_noise_standard_normal() -> None:
    halfway = slerp(noise(1, 0, (4, 128, 128)), noise(2, 0, (4, 128, 128)), 0.5)
    assert halfway.dtype == np.float32
    assert halfway.std() == pytest.approx(1, abs=0.02)


def test_slerp_begins_and_ends_exactly_at_the_two() -> None:
    assert_array_equal(slerp(LOW, HIGH, 0), LOW)
    assert_array_equal(slerp(LOW, HIGH, 1.0), HIGH)


def test_slerp_of_columns_on_one_line_is_their_chord() -> None:
    assert_allclose(slerp(LOW, LOW, 0.3), LOW, rtol=1e-6)
    assert_allclose(slerp(LOW, 2 * LOW, 0.3), 1.3 * LOW, rtol=1e-6)
    assert_allclose(slerp(LOW, -LOW, 0.3), 0.4 * LOW, rtol=1e-6)
    single = slerp(LOW[:, :, :1], HIGH[:, :, :1], 0.3)
    assert_allclose(single, 0.7 * LOW[:, :, :1] + 0.3 * HIGH[:, :, :1], rtol=0, atol=1e-6)
    mixed = HIGH.copy()
    mixed[..., 3], mixed[..., 5] = LOW[..., 3], 0
    between = slerp(LOW, mixed, 0.25)
    assert_allclose(between[..., 3], LOW[..., 3], rtol=1e-6)
    assert_array_equal(between[..., 0], slerp(LOW, HIGH, 0.25)[..., 0])
    assert np.isfinite(between).all()


def test_slerp_checks_its_arguments() -> None:
    for strength in (-0.1, 1.1, float("nan")):
        with pytest.raises(DiffusionError, match="subseed_strength="):
            slerp(LOW, HIGH, strength)
    with pytest.raises(DiffusionError, match="shape="):
        slerp(LOW, HIGH[..., :3], 0.5)


@pytest.mark.parametrize(
    ("before", "shape"), [((1, 3, 4, 4), (1, 4, 4, 4)), ((1, 3, 5, 7), (1, 4, 5, 7)), ((17,), (16,))]
)
def test_draws_after_one_of_another_shape_are_torchs(before: tuple[int, ...], shape: tuple[int, ...]) -> None:
    generator = torch.Generator("cpu").manual_seed(9)
    torch.randn(before, generator=generator)
    source = NoiseSource(9, shape, "torch", after=before)
    for number in range(3):
        assert_allclose(source.draw(number), torch.randn(shape, generator=generator).numpy(), atol=3e-6)


def test_a_draw_of_another_shape_is_one_of_philox_too() -> None:
    # each draw counts on by one, whatever its size
    assert_array_equal(
        NoiseSource(9, (1, 4, 4, 4), "philox", after=(1, 3, 4, 4)).draw(0), noise(9, 1, (1, 4, 4, 4), "philox")
    )


def test_few_values_cannot_come_after_another_shape() -> None:
    for shape, after in (((15,), (16,)), ((16,), (15,))):
        with pytest.raises(DiffusionError, match="of at least 16 values"):
            NoiseSource(9, shape, "torch", after=after)
