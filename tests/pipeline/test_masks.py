"""Masks, crops, sizes and overlays, against VaeImageProcessor in diffusers."""

from typing import Any

import numpy as np
import pytest
from diffusers.image_processor import VaeImageProcessor
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from components.messages import Overlay
from pipeline.errors import RequestError
from pipeline.fitting import Fit, fitted
from pipeline.masks import blurred, crop_region
from pipeline.overlays import laid

SIDES = st.integers(1, 40)


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


@given(st.data())
def test_the_part_that_is_drawn_is_that_of_diffusers(data: st.DataObject) -> None:
    draw = data.draw
    width, height = draw(SIDES), draw(SIDES)
    left, top = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    box = (left, top, draw(st.integers(left + 1, width)), draw(st.integers(top + 1, height)))
    mask = Image.new("L", (width, height))
    mask.paste(draw(st.integers(1, 255)), box)
    size = (8 * draw(st.integers(1, 8)), 8 * draw(st.integers(1, 8)))
    padding = draw(st.integers(0, 12))
    expected = VaeImageProcessor.get_crop_region(mask, *size, pad=padding)
    assert crop_region(mask, padding, size) == tuple(map(int, expected))


def test_a_mask_that_leaves_nothing_has_no_such_part() -> None:
    with pytest.raises(RequestError, match="mask: leaves nothing to draw"):
        crop_region(Image.new("L", (8, 8)), 4, (64, 64))


@pytest.mark.parametrize("given", [(40, 40), (40, 24), (24, 40), (37, 91), (16, 50), (33, 17)], ids=str)
@pytest.mark.parametrize("size", [(32, 32), (64, 48), (48, 64)], ids=str)
@pytest.mark.parametrize("fit", Fit)
def test_pictures_are_fitted_as_diffusers_does(given: tuple[int, int], size: tuple[int, int], fit: Fit) -> None:
    picture = noise(*given)
    mode = {Fit.STRETCH: "default", Fit.CROP: "crop", Fit.FILL: "fill"}[fit]
    expected = VaeImageProcessor(vae_scale_factor=8).resize(picture, size[1], size[0], resize_mode=mode)
    ours = fitted(picture, size, fit)
    assert ours.size == size
    np.testing.assert_array_equal(np.asarray(ours), np.asarray(expected))


@pytest.mark.parametrize("blur", [0, 3, 12])
def test_masks_are_blurred_as_diffusers_does(blur: int) -> None:
    for mask in (noise(30, 40), noise(30, 40).convert("L")):
        np.testing.assert_array_equal(
            np.asarray(blurred(mask, (blur, blur))), np.asarray(VaeImageProcessor.blur(mask, blur))
        )


@pytest.mark.parametrize("box", [(0, 0, 40, 30), (8, 4, 24, 20), (3, 5, 30, 26)], ids=str)
def test_what_was_drawn_is_laid_in_as_diffusers_does(box: Any) -> None:
    picture, drawn, mask = noise(40, 30), noise(64, 64, 1), noise(40, 30, 2).convert("L")
    # as the region's own mask has it: nothing outside it is light
    within = Image.new("L", mask.size)
    within.paste(mask.crop(box), box[:2])
    expected = VaeImageProcessor(vae_scale_factor=8).apply_overlay(within, picture, drawn, box)
    ours = laid(Overlay(np.asarray(picture), np.asarray(within), box), np.asarray(drawn))
    # what is half transparent is rounded once here, and there multiplied and divided
    assert np.abs(ours.astype(int) - np.asarray(expected)).max() <= 2
