"""Depth maps of any scale and mode, against torch's interpolate as diffusers calls it."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from pipeline.depth import depth_plane
from pipeline.errors import RequestError
from tests.pipeline.test_source_pictures import through_a_file

MOST = 10**6
MAP = np.random.default_rng(0).integers(0, 2**16, (30, 41)).astype(np.uint16)
GREATEST = np.equal(MAP, MAP.max())


def theirs(values: npt.NDArray[Any], width: int, height: int) -> npt.NDArray[np.float32]:
    whole = torch.from_numpy(values.astype(np.float32))[None, None]
    small = torch.nn.functional.interpolate(whole, size=(height, width), mode="bicubic", align_corners=False)
    normal: npt.NDArray[np.float32] = (2 * (small - small.min()) / (small.max() - small.min()) - 1).numpy()
    return normal


@pytest.mark.parametrize(("width", "height"), [(41, 30), (8, 6), (5, 40), (60, 7), (1, 2)])
def test_a_map_is_resized_and_brought_to_its_range_as_in_diffusers(width: int, height: int) -> None:
    plane = depth_plane(through_a_file(Image.fromarray(MAP)), width, height, MOST)
    assert (plane.shape, str(plane.dtype), plane.min(), plane.max()) == ((1, 1, height, width), "float32", -1, 1)
    np.testing.assert_allclose(plane, theirs(MAP, width, height), atol=2e-5)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "I", "F"])
def test_the_scale_says_nothing_and_alpha_does_not_count(mode: str) -> None:
    grey = Image.fromarray((MAP // 256).astype(np.uint8))
    expected = depth_plane(grey, 8, 6, MOST)
    found = grey.convert(mode)
    if mode.endswith("A"):
        found.putalpha(Image.new("L", found.size, 3))
    np.testing.assert_array_equal(depth_plane(found, 8, 6, MOST), expected)
    scaled = Image.fromarray(np.asarray(grey, np.float32) * 1e30 - 1e32)
    np.testing.assert_allclose(depth_plane(scaled, 8, 6, MOST), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("picture", "said"),
    [
        (Image.new("L", (50, 40), 137), "depth='one value': must be a picture of several"),
        (Image.new("F", (5, 4), 1e38), "depth='one value'"),
        (Image.fromarray(np.where(GREATEST, np.float32(np.inf), MAP).astype(np.float32)), "not finite"),
        (Image.fromarray(np.where(GREATEST, np.float32(np.nan), MAP).astype(np.float32)), "not finite"),
        (Image.new("L", (1001, 1000)), "depth=1001x1000: must have 1 to 1000000 pixels"),
    ],
)
def test_a_map_that_says_nothing_is_refused(picture: Image.Image, said: str) -> None:
    with pytest.raises(RequestError, match=said) as refused:
        depth_plane(picture, 8, 6, MOST)
    assert refused.value.field == "depth"


def test_what_is_lost_on_the_way_to_the_latents_size_says_nothing_either() -> None:
    values = np.zeros((64, 64), np.uint8)
    values[0, 0] = 255
    with pytest.raises(RequestError, match="in the size that is drawn"):
        depth_plane(Image.fromarray(values), 4, 4, MOST)
