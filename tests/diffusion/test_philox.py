"""CUDA's noise against what was published of it."""

import numpy as np
import pytest

from diffusion.noise import noise
from diffusion.philox import PhiloxNormals, philox4x32

# as printed by torch, to four decimals; half of the last, and the rounding of a card's fast sine
PRINTED = 0.5e-4 + 2e-6


@pytest.mark.parametrize(
    ("counter", "key", "encrypted"),
    [
        ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ],
)
def test_the_known_answers_of_random123(counter: str, key: str, encrypted: str) -> None:
    words, keys = ([np.array([int(word, 16)], np.uint64) for word in text.split()] for text in (counter, key))
    found = philox4x32(words, keys)
    assert [f"{int(word[0]):08x}" for word in found] == encrypted.split()


def test_it_is_what_a1111_says_of_its_source_nv() -> None:
    """The docstring of rng_philox.py in stable-diffusion-webui: seed 0."""
    published = [
        [-0.92466259, -0.42534415, -2.6438457, 0.14518388],
        [-0.12086647, -0.57972564, -0.62285122, -0.32838709],
        [-1.07454231, -0.36314407, -1.67105067, 2.26550497],
    ]
    np.testing.assert_allclose(noise(0, 0, (3, 4), "philox"), published, rtol=0, atol=1e-6)


def test_it_is_what_cards_have_printed() -> None:
    """Issues of pytorch/pytorch: 62467 (RTX A6000), 158398, 143086 (A100 and H100), 97097 (RTX A4000), 79496."""
    a6000 = noise(43, 0, (1, 3, 128, 128), "philox")[0, :, 0, 0]
    np.testing.assert_allclose(a6000, [1.9983, 0.8704, 2.1127], rtol=0, atol=PRINTED)
    wide = noise(42, 0, (1, 64, 2048), "philox")[0, :3]
    np.testing.assert_allclose(wide[0, :3], [0.1940, 2.1614, -0.1721], rtol=0, atol=PRINTED)
    np.testing.assert_allclose(wide[:, -1], [-0.8932, -1.2535, -0.6955], rtol=0, atol=PRINTED)
    np.testing.assert_allclose(noise(1, 0, (3,), "philox"), [-0.2963, 2.6764, -0.1408], rtol=0, atol=PRINTED)
    np.testing.assert_allclose(noise(10, 0, (3,), "philox"), [-0.1029, 1.6810, -0.2708], rtol=0, atol=PRINTED)
    scaled = 5 + 5**0.5 * noise(14, 0, (1000, 100), "philox")[:3, :3]
    printed = [[2.8731, 5.2727, 2.9889], [3.9968, 3.8097, 5.7328], [6.5552, 4.0857, 4.2315]]
    np.testing.assert_allclose(scaled, printed, rtol=0, atol=2 * PRINTED)


@pytest.mark.parametrize(
    ("number", "printed"),
    [
        (0, [0.1940, 2.1614, -0.1721, 0.8491]),
        (1, [0.1391, -0.1082, -0.7174, 0.7566]),
        (2, [-0.5187, 1.2268, 0.6255, -0.9117]),
        (3, [-0.6974, -1.8688, -0.8832, -1.6627]),
        (4, [-1.2682, -0.0383, -0.1029, 1.4400]),
        (5, [1.4640, -0.3238, 0.7740, 1.5892]),
    ],
)
def test_successive_draws_are_those_that_a_card_has_printed(number: int, printed: list[float]) -> None:
    """Six arrays that a report on torch._foreach_sub drew one after another on a card, from seed 42."""
    np.testing.assert_allclose(noise(42, number, (4,), "philox"), printed, rtol=0, atol=PRINTED)


def test_a_value_depends_on_its_place_and_not_on_how_many_there_are() -> None:
    many = PhiloxNormals(7, 3 * 2**13 + 5).draw(2)
    for size in (1, 2**13, 2**13 + 1, 2**14):
        np.testing.assert_array_equal(PhiloxNormals(7, size).draw(2), many[:size])


def test_seeds_are_64_bits_wide() -> None:
    drawn = [PhiloxNormals(seed, 8).draw(0).tobytes() for seed in (0, 2**32, 2**62, 2**63 - 1)]
    assert len(set(drawn)) == 4
