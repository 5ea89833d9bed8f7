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

PROMPT = "a secret äpple, \N{RED APPLE}"
REQUEST = image_request(
    prompt=PROMPT, steps=5, rng="philox", seed=3, subseed=4, subseed_strength=0.5, width=32, height=16
)
PIXELS = np.random.default_rng(0).integers(0, 256, (16, 32, 3), np.uint8)
FORMATS: tuple[PictureFormat, ...] = ("png", "jpeg", "webp")
_IMAGE_DESCRIPTION, _EXIF, _USER_COMMENT = 0x010E, 0x8769, 0x9286


def texts_of(data: bytes) -> tuple[str, str]:
    """Our JSON and the infotext, as Pillow reads them."""
    picture = Image.open(io.BytesIO(data))
    if picture.format == "PNG":
        return picture.info[METADATA_KEY], picture.info["parameters"]
    exif = picture.getexif()
    comment: bytes = exif.get_ifd(_EXIF)[_USER_COMMENT]
    return exif[_IMAGE_DESCRIPTION], comment.removeprefix(b"UNICODE\0").decode("utf-16-be")


@pytest.mark.parametrize("form", FORMATS)
def test_every_file_says_what_made_it(form: PictureFormat, live: LiveModel) -> None:
    ours, infotext = texts_of(encode_picture(PIXELS, Encoding(form), describe(REQUEST, live.pins)))
    said = json.loads(ours)
    assert (said["seed"], said["steps"], said["width"], said["height"]) == (3, 5, 32, 16)
    assert (said["rng"], said["subseed"], said["subseed_strength"]) == ("philox", 4, 0.5)
    assert (said["prompt"], said["model"]) == (PROMPT, "toy")
    assert said["components"]["denoiser"] == live.pins[Kind.DENOISER].model_dump()
    assert said["fallback_for"] is None
    assert infotext.startswith(f"{PROMPT}\nSteps: 5, Sampler: DDIM, ")


def test_png_keeps_every_pixel(live: LiveModel) -> None:
    data = encode_picture(PIXELS, Encoding(), describe(REQUEST, live.pins))
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(data))), PIXELS)


def test_the_fallback_that_made_it_is_told(live: LiveModel) -> None:
    pinned = live.pins[Kind.VAE_DECODER]
    other = pinned.model_copy(update={"version": 9})
    said = json.loads(describe(REQUEST, live.pins, other).to_json())
    assert (said["components"]["vae_decoder"], said["fallback_for"]) == (other.model_dump(), pinned.model_dump())
    assert json.loads(describe(REQUEST, live.pins, pinned).to_json())["fallback_for"] is None


@pytest.mark.parametrize("form", FORMATS)
def test_prompts_may_be_kept_out(form: PictureFormat, live: LiveModel) -> None:
    request = image_request(prompt="a secret", negative_prompt="another secret")
    data = encode_picture(PIXELS, Encoding(form), describe(request, live.pins, prompts=False))
    ours, infotext = texts_of(data)
    said = json.loads(ours)
    assert (said["prompt"], said["negative_prompt"], said["seed"]) == (None, None, 5)
    assert infotext.startswith("Steps: 3, ")
    assert not any("secret".encode(encoding) in data for encoding in ("utf-8", "utf-16-be"))


def test_what_gives_the_picture_again_is_all_there(live: LiveModel) -> None:
    said = json.loads(describe(REQUEST, live.pins).to_json())
    guided = {name: said[name] for name in ("guidance_rescale", "guidance_start", "guidance_end", "adaptive_guidance")}
    assert guided == {
        "guidance_rescale": 0.0,
        "guidance_start": 0.0,
        "guidance_end": 1.0,
        "adaptive_guidance": None,
    }
    fields = RequestFields.__dataclass_fields__.keys() - {"n", "image", "mask", "image_prompts"}
    assert fields <= said.keys(), "a field that decides the picture is not told"
    for name, value in (("guidance_end", 0.5), ("adaptive_guidance", 0.99), ("eta", 0.25)):
        assert json.loads(describe(image_request(**{name: value}), live.pins).to_json())[name] == value


@pytest.mark.parametrize("form", ["jpeg", "webp"])
def test_lossy_formats_obey_the_quality(form: PictureFormat, live: LiveModel) -> None:
    story = describe(REQUEST, live.pins)
    best, worst = (encode_picture(PIXELS, Encoding(form, quality), story) for quality in (100, 0))
    assert len(worst) < len(best)
    (ours, infotext), (other, its_infotext) = texts_of(best), texts_of(worst)
    assert infotext == its_infotext
    told = [json.loads(text) for text in (ours, other)]
    assert [one.pop("file") for one in told] == [
        {"output_format": form, "output_compression": quality} for quality in (100, 0)
    ]
    assert told[0] == told[1]


@pytest.mark.parametrize("form", FORMATS)
def test_same_pixels_same_bytes(form: PictureFormat, live: LiveModel) -> None:
    for metadata in ("{}", describe(REQUEST, live.pins)):
        again = describe(REQUEST, dict(live.pins)) if metadata != "{}" else "{}"
        assert encode_picture(PIXELS, Encoding(form), metadata) == encode_picture(PIXELS.copy(), Encoding(form), again)
