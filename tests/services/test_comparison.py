"""Two pictures of the same latents beside each other."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.messages import Pixels
from services.comparison import decibels, difference, psnr_db, sheet
from services.errors import ServingError


def random(seed: int, height: int = 32, width: int = 48) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def test_psnr_is_that_of_its_definition() -> None:
    a, b = random(0), random(1)
    squared = np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2)
    assert psnr_db(a, b) == psnr_db(b, a) == pytest.approx(10 * np.log10(255**2 / squared), rel=1e-9)
    c = a.copy()
    c[0, 0, 0] ^= 1
    assert psnr_db(a, c) == pytest.approx(10 * np.log10(255**2 * a.size))
    black, white = np.zeros_like(a), np.full_like(a, 255)
    assert psnr_db(black, white) == 0.0
    assert (psnr_db(a, a), decibels(psnr_db(a, a)), decibels(41.268)) == (math.inf, "inf", "41.27")


def test_only_pictures_of_one_size_are_compared() -> None:
    with pytest.raises(ServingError, match="48x32 and 32x48"):
        psnr_db(random(0), random(0, 48, 32))


@given(largest=st.integers(0, 255), seed=st.integers(0, 1000))
def test_the_map_keeps_every_difference_apart(largest: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    by = rng.integers(0, largest + 1, (6, 5, 3))
    by[2, 3, 1] = largest
    a = np.zeros((6, 5, 3), np.uint8)
    found = difference(a, by.astype(np.uint8))
    assert found.largest == largest
    np.testing.assert_array_equal(found.amplified, by.max(axis=2) * found.factor)
    # as much as it can be
    assert largest == 0 or 127 < largest * found.factor <= 255


@pytest.mark.parametrize(("height", "width"), [(32, 48), (64, 64), (256, 512), (1024, 1024)])
def test_a_sheet_holds_both_pictures_and_their_difference(height: int, width: int) -> None:
    a = random(0, height, width)
    b = a.copy()
    b[height // 2 :, :, 0] ^= 3
    drawn = sheet(a, b, difference(a, b), ("toy.vae_decoder/1", "toy.vae_decoder/2"))
    zoom = max(1, -(-256 // min(height, width)))
    assert drawn.shape[1] > 3 * width * zoom
    for picture in (a, b):
        large = picture.repeat(zoom, axis=0).repeat(zoom, axis=1)
        assert any(
            (drawn[top : top + height * zoom, left : left + width * zoom] == large).all()
            for top, left in np.argwhere((drawn == large[0, 0]).all(axis=2))[:400]
            if top + height * zoom <= drawn.shape[0] and left + width * zoom <= drawn.shape[1]
        )


def test_long_names_stay_in_their_places() -> None:
    a = random(0, 64, 64)
    names = ("toy.vae_decoder/1", "a-bundle-of-a-long-name.vae_decoder.and-another-long-one/2")
    assert sheet(a, a, difference(a, a), names).shape == sheet(a, a, difference(a, a), ("a", "b")).shape
