"""Pictures in their files: the pixels, the bytes, and what the file says of itself."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from components.contract import Kind
from pipeline.request import RequestFields
from services.encoding import METADATA_KEY, describe, encode_picture
from services.messages import Encoding, LiveModel, PictureFormat
from tests.requests import image_request

REQUEST = image_request(
    prompt="a secret", steps=5, rng="philox", seed=3, subseed=4, subseed_strength=0.5, width=32, height=16
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


def test_what_gives_the_picture_again_is_all_there(live: LiveModel) -> None:
    said = json.loads(describe(REQUEST, live.pins))
    guided = {name: said[name] for name in ("guidance_rescale", "guidance_start", "guidance_end", "adaptive_guidance")}
    assert guided == {
        "guidance_rescale": 0.0,
        "guidance_start": 0.0,
        "guidance_end": 1.0,
        "adaptive_guidance": None,
    }
    fields = RequestFields.__dataclass_fields__.keys() - {"prompt", "negative_prompt", "n"}
    assert fields <= said.keys(), "a field that decides the picture is not told"
    for name, value in (("guidance_end", 0.5), ("adaptive_guidance", 0.99), ("eta", 0.25)):
        assert json.loads(describe(image_request(**{name: value}), live.pins))[name] == value


@pytest.mark.parametrize("form", ["jpeg", "webp"])
def test_lossy_formats_say_it_too_and_obey_the_quality(form: PictureFormat, live: LiveModel) -> None:
    metadata = describe(REQUEST, live.pins)
    best, worst = (encode_picture(PIXELS, Encoding(form, quality), metadata) for quality in (100, 0))
    assert len(worst) < len(best)
    assert Image.open(io.BytesIO(best)).getexif()[0x010E] == metadata


@pytest.mark.parametrize("form", ["png", "jpeg", "webp"])
def test_same_pixels_same_bytes(form: PictureFormat) -> None:
    assert encode_picture(PIXELS, Encoding(form), "{}") == encode_picture(PIXELS.copy(), Encoding(form), "{}")
