"""Pictures in their files: the pixels, the bytes, and what the file says of itself."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from components.contract import Kind
from components.messages import ImageRequest
from services.encoding import METADATA_KEY, describe, encode_picture
from services.messages import Encoding, LiveModel, PictureFormat

REQUEST = ImageRequest(
    prompt="a secret",
    negative_prompt="",
    steps=5,
    guidance=2.0,
    sampler="ddim",
    schedule="default",
    rng="philox",
    seed=3,
    subseed=4,
    subseed_strength=0.5,
    n=1,
    width=32,
    height=16,
)
PIXELS = np.random.default_rng(0).integers(0, 256, (16, 32, 3), np.uint8)


def test_png_keeps_every_pixel_and_says_what_made_it(live: LiveModel) -> None:
    data = encode_picture(PIXELS, Encoding(), describe(REQUEST, live.pins))
    picture = Image.open(io.BytesIO(data))
    np.testing.assert_array_equal(np.asarray(picture), PIXELS)
    said = json.loads(picture.info[METADATA_KEY])
    assert (said["seed"], said["steps"], said["width"], said["height"]) == (3, 5, 32, 16)
    assert (said["rng"], said["subseed"], said["subseed_strength"]) == ("philox", 4, 0.5)
    assert said["components"]["denoiser"] == live.pins[Kind.DENOISER].model_dump()
    assert "secret" not in picture.info[METADATA_KEY]


@pytest.mark.parametrize("form", ["jpeg", "webp"])
def test_lossy_formats_say_it_too_and_obey_the_quality(form: PictureFormat, live: LiveModel) -> None:
    metadata = describe(REQUEST, live.pins)
    best, worst = (encode_picture(PIXELS, Encoding(form, quality), metadata) for quality in (100, 0))
    assert len(worst) < len(best)
    assert Image.open(io.BytesIO(best)).getexif()[0x010E] == metadata


@pytest.mark.parametrize("form", ["png", "jpeg", "webp"])
def test_same_pixels_same_bytes(form: PictureFormat) -> None:
    assert encode_picture(PIXELS, Encoding(form), "{}") == encode_picture(PIXELS.copy(), Encoding(form), "{}")
