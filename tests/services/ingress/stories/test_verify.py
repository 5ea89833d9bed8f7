"""The verification face: what is drawn again, what it says of the pixels, and everything that it refuses."""

import asyncio
import base64
import io
import json
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from PIL.ExifTags import Base
from PIL.PngImagePlugin import PngInfo

from components.contract import ImageChannels, Kind
from components.messages import Pixels, Tiling
from components.reference import ComponentRef
from pipeline.source_pictures import edit_mask, image_pixels, latent_mask
from pipeline.story.files import png_options
from pipeline.story.origin import NOISE
from pipeline.story.reading import read_story
from pipeline.story.record import Story
from services.encoding import describe, finished_picture, origin_of
from services.ingress.app import create_app
from services.ingress.orders.fields import order_of
from services.ingress.stories import verify as face
from services.ingress.stories.schemas import Verification
from services.keys.allowance import Allowance
from services.keys.keyring import Caller
from services.keys.settings import KeyLimits
from services.messages import Drawn, LiveModel, Order, Picture
from tests.services.conftest import looking_at
from tests.services.ingress.conftest import Server, error_of
from tests.services.ingress.controls import EDGES, LINES, with_controls

PATH = "/v1/verify"
MOST_PIXELS = 2**24
USED = (Kind.TEXT_ENCODER, Kind.DENOISER, Kind.VAE_DECODER)
SETTINGS: dict[str, Any] = {"prompt": "a red apple", "seed": 7, "steps": 12, "size": "128x64"}


async def draw_noise(order: Order) -> Drawn:
    """Pictures that every setting, version and source chooses, as those of a model are."""
    made = []
    for one in map(order.request.picture, range(order.request.n)):
        origin = origin_of(order)
        told = repr((one, sorted((kind, str(pin)) for kind, pin in order.pins.items() if kind in USED), origin))
        rng = np.random.default_rng(list(told.encode()))
        pixels = rng.integers(0, 256, (one.height // 8, one.width // 8, 3), np.uint8).repeat(8, 0).repeat(8, 1)
        data = finished_picture(pixels, order, describe(one, order.pins, origin=origin, beside=order.beside))
        made.append(Picture(data, one.seed, one.subseed))
    return Drawn(tuple(made), False, False, 3)


@pytest.fixture
def noisy(server: Server, live: LiveModel) -> Server:
    """A server whose pictures differ, and whose registry knows the live versions."""
    for kind, pin in live.pins.items():
        server.controller.versions[str(pin)] = (pin, live.contracts[kind])
    server.draw = draw_noise
    return server


def verify(server: Server, image: bytes, **files: bytes) -> httpx.Response:
    parts = {name: (f"{name}.png", data) for name, data in {"image": image, **files}.items()}
    return server.request("POST", PATH, files=parts)


def verified(server: Server, image: bytes, **files: bytes) -> dict[str, Any]:
    response = verify(server, image, **files)
    assert response.status_code == 200, response.text
    said: dict[str, Any] = response.json()
    assert Verification.model_validate_json(response.content, strict=True)
    return said


def story_of(data: bytes) -> Story:
    story = read_story(data).story
    assert story is not None
    return story


def retold(data: bytes, change: Callable[[dict[str, Any]], Any]) -> bytes:
    """The same pixels in a PNG file, and another story."""
    said = json.loads(story_of(data).to_json())
    change(said)
    out = io.BytesIO()
    Image.open(io.BytesIO(data)).save(out, "PNG", **png_options(json.dumps(said)))
    return out.getvalue()


def pixels_of(data: bytes) -> Pixels:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def png(picture: Image.Image) -> bytes:
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


@pytest.mark.parametrize(
    ("form", "compression"), [("png", 100), ("jpeg", 100), ("jpeg", 60), ("webp", 100), ("webp", 60)]
)
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {
            "negative_prompt": "dark",
            "guidance_start": 0.25,
            "adaptive_guidance": 0.99,
            "weighting": "a1111",
            "sampler": "DPM++ 2M",
            "schedule": "karras",
            "rng": "philox",
            "subseed_strength": 0.25,
        },
    ],
)
def test_a_picture_is_what_its_story_makes(
    noisy: Server, live: LiveModel, form: str, compression: int, settings: dict[str, Any]
) -> None:
    made = noisy.generate(f"image/{form}", **SETTINGS, **settings, output_compression=compression).content
    said = verified(noisy, made)
    assert (said["object"], said["equal"]) == ("image.verification", True)
    assert (said["largest_difference"], said["differing_pixels"], said["made_from"]) == (0, 0, None)
    assert (said["output_format"], said["output_compression"]) == (form, compression)
    pins = {kind.value: live.pins[kind].model_dump() for kind in USED}
    assert {one["kind"]: one["asked"] for one in said["components"]} == pins
    assert {one["kind"]: one["present"] for one in said["components"]} == pins
    assert said["request"]["seed"] == 7
    first, second = noisy.orders
    assert second.request == first.request
    assert second.encoding == first.encoding
    assert (second.fallback, second.shadow, second.store_latents) == (None, None, False)


@pytest.mark.parametrize("upscaler", ["latent_bicubic", "lanczos"])
def test_a_picture_of_two_passes_is_made_again(noisy: Server, upscaler: str) -> None:
    hires = {"scale": 2, "strength": 0.6, "steps": 9, "upscaler": upscaler}
    made = noisy.generate("image/png", **SETTINGS, hires=hires).content
    assert Image.open(io.BytesIO(made)).size == (256, 128)
    said = verified(noisy, made)
    assert said["equal"] is True
    first, second = noisy.orders
    assert second.request == first.request
    # where pixels are enlarged they are encoded
    assert (Kind.VAE_ENCODER in second.pins) == (upscaler == "lanczos")
    asked = said["request"]
    assert (asked["size"], asked["hires"]["width"], asked["hires"]["height"]) == ("128x64", 256, 128)
    error = error_of(verify(noisy, retold(made, lambda story: story["hires"].update(upscaler="other"))), 422)
    assert "hires.upscaler: must be one of latent_nearest" in error["message"]


@pytest.mark.parametrize("tiled", ["both", "second"])
def test_two_passes_are_made_again_in_the_tiles_of_their_story(noisy: Server, tiled: str) -> None:
    assert noisy.generate(**SETTINGS, hires={"scale": 2}).status_code == 200
    [order] = noisy.orders
    tiling, hires = Tiling(side=64, overlap=0.5), order.request.hires
    assert hires is not None
    of_first = replace(hires, tiling=tiling) if tiled == "both" else hires
    request = replace(order.request, tiling=tiling, hires=of_first)
    [made] = asyncio.run(draw_noise(replace(order, request=request))).pictures
    assert verified(noisy, made.data)["equal"] is True
    assert noisy.orders[-1].request == request


def test_the_picture_alone_will_do(noisy: Server) -> None:
    made = noisy.generate("image/png", **SETTINGS).content
    response = noisy.request("POST", PATH, content=made, headers={"content-type": "image/png"})
    assert response.json()["equal"] is True
    assert response.headers["x-seed"] == "7"


def test_one_byte_of_its_story_makes_another_picture(noisy: Server) -> None:
    made = noisy.generate("image/png", **SETTINGS).content
    said = verified(noisy, retold(made, lambda story: story.update(seed=8)))
    assert said["equal"] is False
    assert noisy.orders[1].request.seed == 8
    again = noisy.generate("image/png", **{**SETTINGS, "seed": 8}).content
    apart = np.abs(pixels_of(made).astype(int) - pixels_of(again)).max(axis=2)
    assert (said["largest_difference"], said["differing_pixels"]) == (apart.max(), np.count_nonzero(apart))


def test_one_pixel_is_enough(noisy: Server) -> None:
    made = noisy.generate("image/png", **SETTINGS).content
    pixels = pixels_of(made).copy()
    pixels[3, 5, 1] ^= 1
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG", **png_options(story_of(made)))
    said = verified(noisy, out.getvalue())
    assert (said["equal"], said["largest_difference"], said["differing_pixels"]) == (False, 1, 1)


def test_each_picture_of_several_is_drawn_alone(noisy: Server) -> None:
    data = noisy.generate(**SETTINGS, n=3, subseed=4, subseed_strength=0.5).json()["data"]
    for number, one in enumerate(data):
        assert verified(noisy, base64.b64decode(one["b64_json"]))["equal"] is True
        assert (noisy.orders[-1].request.n, noisy.orders[-1].request.subseed) == (1, 4 + number)


def test_a_lossy_file_that_was_packed_again_is_another(noisy: Server) -> None:
    made = noisy.generate("image/jpeg", **SETTINGS).content
    image = Image.open(io.BytesIO(made))
    out = io.BytesIO()
    image.save(out, "JPEG", quality=40, exif=image.getexif())
    assert Base.ImageDescription in Image.open(out).getexif()
    assert verified(noisy, out.getvalue())["equal"] is False


def test_a_lossy_file_whose_pixels_were_kept_is_told(noisy: Server) -> None:
    """A PNG file of what a JPEG file shows."""
    made = noisy.generate("image/jpeg", **SETTINGS, output_compression=50).content
    assert verified(noisy, retold(made, lambda _: None))["equal"] is True


def test_how_a_file_was_compressed_cannot_always_be_told(noisy: Server) -> None:
    made = noisy.generate("image/jpeg", **SETTINGS).content
    image = Image.open(io.BytesIO(made))
    out = io.BytesIO()
    image.save(out, "WEBP", exif=image.getexif())
    error = error_of(verify(noisy, out.getvalue()), 422)
    assert (error["param"], "is a webp file, and was written as jpeg" in error["message"]) == ("image", True)
    # before stories told of it
    assert verified(noisy, retold(noisy.generate("image/png", **SETTINGS).content, forget))["equal"] is True
    exif = image.getexif()
    exif[Base.ImageDescription] = json.dumps(forget(json.loads(exif[Base.ImageDescription])))
    out = io.BytesIO()
    image.save(out, "JPEG", quality=100, exif=exif)
    error = error_of(verify(noisy, out.getvalue()), 422)
    assert "does not tell how it was compressed" in error["message"]


def forget(story: dict[str, Any]) -> dict[str, Any]:
    """A story as it was before it told of its file and of what it was made from."""
    for name in ("file", "source", "mask"):
        story.pop(name, None)
    return story


def verify_by(server: Server, **changes: Any) -> None:
    """Have a server verify, and do nothing else, by other rules."""
    [verification] = [one for one in server.faces if isinstance(one, face.VerifyFace)]
    rules = verification.orders.rules.model_copy(update=changes)
    elsewhere = replace(verification, orders=replace(verification.orders, rules=rules))
    server.app = create_app([elsewhere], server.metrics, 3)


def test_a_picture_is_made_again_in_the_tiles_of_its_story(noisy: Server) -> None:
    whole = noisy.generate("image/png", **SETTINGS).content
    [order] = noisy.orders
    tiled = replace(order.request, tiling=Tiling(side=64, overlap=0.5))
    [made] = asyncio.run(draw_noise(replace(order, request=tiled))).pictures
    for rules in ({"max_whole_pixels": 64 * 64, "tile_side": 64, "tile_overlap": 0.25}, {}):
        verify_by(noisy, **rules)
        assert verified(noisy, made.data)["equal"] is True
        assert noisy.orders[-1].request == tiled
    assert "tiling" not in verified(noisy, made.data)["request"]
    # as large a one is not decoded as a whole here, whatever its story says
    verify_by(noisy, max_whole_pixels=128 * 64 - 1, tile_side=64)
    error = error_of(verify(noisy, whole), 422)
    assert error["message"] == ("image: its story's tiling=None: would be Tiling(side=64, overlap=0.25) here")


def test_what_an_old_story_does_not_tell_was_at_its_default(noisy: Server) -> None:
    """As of a setting that came later, and whose default a server may change."""
    made = noisy.generate("image/png", **SETTINGS).content
    old = retold(made, lambda story: [story.pop(name) for name in ("weighting", "clip_skip", "strength")])
    verify_by(noisy, default_weighting="a1111", default_steps=3)
    assert verified(noisy, old)["equal"] is True
    assert noisy.orders[1].request == noisy.orders[0].request


def test_a_file_of_another_size_is_another_picture(noisy: Server) -> None:
    made = noisy.generate("image/png", **SETTINGS).content
    out = io.BytesIO()
    Image.open(io.BytesIO(made)).resize((64, 64)).save(out, "PNG", **png_options(story_of(made)))
    said = verified(noisy, out.getvalue())
    assert (said["equal"], said["largest_difference"], said["differing_pixels"]) == (False, None, None)


@pytest.fixture
def photo() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 60, 3), dtype=np.uint8))


@pytest.fixture
def mask() -> Image.Image:
    made = Image.new("L", (60, 90))
    made.paste(255, (0, 0, 30, 90))
    return made


def edited(server: Server, photo: Image.Image, mask: Image.Image | None, **fields: str) -> bytes:
    files = {"image": png(photo)} if mask is None else {"image": png(photo), "mask": png(mask)}
    asked = {"prompt": "a boat", "size": "64x64", "seed": "3", "strength": "0.5", **fields}
    response = server.request("POST", "/v1/images/edits", files=files, data=asked, headers={"accept": "image/png"})
    assert response.status_code == 200, response.text
    return response.content


def test_a_story_tells_which_picture_it_began_with(noisy: Server, photo: Image.Image, mask: Image.Image) -> None:
    source, area, depth, whole, *_ = story_of(edited(noisy, photo, mask)).origin
    assert source is not None
    assert area is not None
    assert (source.width, source.height, area.width, area.height, whole) == (64, 64, 8, 8, None)
    assert source.sha256 == sha256(image_pixels(photo, 64, 64, MOST_PIXELS).tobytes()).hexdigest()
    assert area.sha256 == sha256(latent_mask(edit_mask(mask, 64, 64, MOST_PIXELS), 8).tobytes()).hexdigest()
    assert depth is None
    assert story_of(noisy.generate("image/png", **SETTINGS).content).origin == NOISE


@pytest.mark.parametrize("blur", ["0", "3"])
def test_a_part_that_was_laid_into_its_source_is_made_again(
    noisy: Server, photo: Image.Image, mask: Image.Image, blur: str
) -> None:
    made = edited(noisy, photo, mask, mask_blur=blur, padding_mask_crop="4")
    assert Image.open(io.BytesIO(made)).size == photo.size
    said = verified(noisy, made, source=png(photo), mask=png(mask))
    assert said["equal"] is True
    whole = said["made_from"]["laid_into"]
    assert (whole["width"], whole["height"]) == photo.size
    # far from what is drawn, and still another picture
    other = photo.copy()
    other.putpixel((59, 2), (0, 0, 0))
    error = error_of(verify(noisy, made, source=png(other), mask=png(mask)), 422)
    assert (error["param"], "is another than the picture was made from" in error["message"]) == ("source", True)


def test_an_edit_is_made_again_from_its_source(
    noisy: Server, live: LiveModel, photo: Image.Image, mask: Image.Image
) -> None:
    for area in (None, mask):
        made = edited(noisy, photo, area)
        files = {"source": png(photo)} if area is None else {"source": png(photo), "mask": png(mask)}
        said = verified(noisy, made, **files)
        assert said["equal"] is True
        assert said["made_from"]["source"]["width"] == 64
        assert (said["made_from"]["mask"] is None) == (area is None)
        assert {one["kind"] for one in said["components"]} == {kind.value for kind in live.pins}
        first, second = noisy.orders[-2:]
        assert second.request == first.request
        assert first.source is not None
        assert second.source is not None
        np.testing.assert_array_equal(second.source.pixels, first.source.pixels)


def test_an_edit_by_depth_is_made_again_from_both(noisy: Server, live: LiveModel, photo: Image.Image) -> None:
    looking = looking_at(live, ImageChannels(source="depth", channels=1))
    noisy.pinning.record = looking
    for kind, pin in live.pins.items():
        noisy.controller.versions[str(pin)] = (pin, looking.live.contracts[kind])
    map_of = np.add.outer(np.arange(60), np.arange(40)).astype(np.uint16)
    depth, other = png(Image.fromarray(map_of)), png(Image.fromarray(map_of.T.copy()))
    asked = {"prompt": "a boat", "size": "64x64", "seed": "3"}
    files = {"image": png(photo), "depth": depth}
    response = noisy.request("POST", "/v1/images/edits", files=files, data=asked, headers={"accept": "image/png"})
    made = response.content
    said = verified(noisy, made, source=png(photo), depth=depth)
    assert (said["equal"], said["made_from"]["depth"]["width"], said["made_from"]["mask"]) == (True, 8, None)
    error = error_of(verify(noisy, made, source=png(photo)), 422)
    assert error["param"] == "depth"
    error = error_of(verify(noisy, made, source=png(photo), depth=other), 422)
    assert (error["param"], "is another than" in error["message"]) == ("depth", True)


@pytest.mark.parametrize(
    ("files", "param", "said"),
    [
        ((), "source", "is required, and must be a file"),
        (("mask",), "source", "is required, and must be a file"),
        (("source",), "mask", "is required, and must be a file"),
        (("source", "other mask"), "mask", "is another than the picture was made from: in 8x8 its sha256 is "),
        (("other source", "mask"), "source", "is another than the picture was made from: in 64x64 its sha256 is "),
        (("no picture", "mask"), "source", "must be a picture"),
    ],
)
def test_an_edit_needs_its_own_source(
    noisy: Server, photo: Image.Image, mask: Image.Image, files: tuple[str, ...], param: str, said: str
) -> None:
    made = edited(noisy, photo, mask)
    sent = {
        "source": ("source", png(photo)),
        "mask": ("mask", png(mask)),
        "other source": ("source", png(photo.rotate(90))),
        "other mask": ("mask", png(Image.new("L", (60, 90), 255))),
        "no picture": ("source", b"no picture"),
    }
    error = error_of(verify(noisy, made, **dict(sent[name] for name in files)), 422)
    assert (error["param"], error["code"]) == (param, "invalid_value")
    assert said in error["message"]
    assert len(noisy.orders) == 1, "nothing was drawn again"


def test_a_picture_of_noise_takes_no_source(noisy: Server, photo: Image.Image) -> None:
    made = noisy.generate("image/png", **SETTINGS).content
    assert error_of(verify(noisy, made, source=png(photo)), 422)["param"] == "source"
    old = retold(edited(noisy, photo, None), forget)
    error = error_of(verify(noisy, old), 422)
    assert error["message"] == "image: was made from another picture, and its story does not tell which"


@pytest.mark.parametrize("kind", USED)
def test_a_version_that_is_not_there_is_named(noisy: Server, live: LiveModel, kind: Kind) -> None:
    made = noisy.generate("image/png", **SETTINGS).content
    pin = live.pins[kind]
    gone = retold(made, lambda story: story["components"][kind].update(version=9))
    error = error_of(verify(noisy, gone), 422)
    assert error["param"] == "image"
    assert f"components.{kind}: {pin.name}/9 is not in the registry" in error["message"]
    other = retold(made, lambda story: story["components"][kind].update(sha256="f" * 64))
    error = error_of(verify(noisy, other), 422)
    assert f"components.{kind}: {pin} has the sha256 {pin.sha256} here, not {'f' * 64}" in error["message"]
    untold = retold(made, lambda story: story["components"].pop(kind))
    assert f"does not tell which {kind}" in error_of(verify(noisy, untold), 422)["message"]
    assert len(noisy.orders) == 1


def test_versions_that_were_live_once_draw_again(noisy: Server, live: LiveModel) -> None:
    other = live.pins[Kind.VAE_DECODER].model_copy(update={"version": 2, "sha256": "2" * 64})
    noisy.controller.versions[str(other)] = (other, live.contracts[Kind.VAE_DECODER])
    made = noisy.generate("image/png", **SETTINGS, components={"vae_decoder": str(other)}).content
    [_, _, decoder] = verified(noisy, made)["components"]
    assert ComponentRef(**decoder["present"]) == other
    assert noisy.orders[1].pins[Kind.VAE_DECODER] == other


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"prompt": None}, "does not tell the prompt"),
        ({"seed": None}, "does not tell the seed"),
        ({"steps": 10**9}, "its story's steps=1000000000: must be"),
        ({"width": 10**6}, "its story's width=1000000: must be"),
        ({"sampler": "a newer one"}, "its story's sampler='a newer one'"),
        ({"prompt_chunks": 99}, "its story's prompt_chunks=99: must be between 1 and "),
        ({"eta": 0.5, "sampler": "euler"}, "its story's eta=0.5"),
        ({"tiling": {"side": 8192, "overlap": 0.25}}, "its story's tiling.side=8192: must have at most 1048576 pixels"),
        ({"tiling": {"side": 1, "overlap": 0.25}}, "not understood here: tiling"),
        ({"strength": 0.5}, "its story does not tell which"),
        ({"mask": {"sha256": "0" * 64, "width": 8, "height": 8}}, "its story does not tell which"),
        ({"tiles": 3}, "its story has parts that are not understood here: tiles"),
        ({"source": {"sha256": "no digest", "width": 8, "height": 8}}, "not understood here: source"),
        ({"file": {"output_format": "gif", "output_compression": 100}}, "not understood here: file"),
    ],
    ids=str,
)
def test_a_story_that_cannot_be_drawn(noisy: Server, change: dict[str, Any], said: str) -> None:
    made = noisy.generate("image/png", **SETTINGS).content
    error = error_of(verify(noisy, retold(made, lambda story: story.update(change))), 422)
    assert (error["param"], error["code"]) == ("image", "invalid_value")
    assert said in error["message"], error["message"]
    assert len(noisy.orders) == 1


def test_a_picture_without_a_story_of_ours(noisy: Server) -> None:
    for data in (png(Image.new("RGB", (64, 64))), infotext_alone()):
        error = error_of(verify(noisy, data), 422)
        assert "holds no story of ours" in error["message"]
    assert error_of(verify(noisy, b"no picture"), 422)["param"] == "image"


def infotext_alone() -> bytes:
    texts, out = PngInfo(), io.BytesIO()
    texts.add_text("parameters", "an owl\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 64x64")
    Image.new("RGB", (64, 64)).save(out, "PNG", pnginfo=texts)
    return out.getvalue()


def test_a_file_that_breaks_off_has_no_pixels(noisy: Server) -> None:
    made = noisy.generate("image/png", **SETTINGS).content
    error = error_of(verify(noisy, made[: len(made) - 400]), 422)
    assert error["param"] == "image"


@pytest.mark.parametrize(
    ("files", "data", "status", "param"),
    [
        ({"picture": b"x"}, {}, 422, "picture"),
        ({"source": b"x"}, {}, 422, "image"),
        ({"image": b"x"}, {"seed": "7"}, 422, "seed"),
        ({"image": b"x"}, {"deadline_s": "soon"}, 422, "deadline_s"),
        ({"image": b"x"}, {"priority": "first"}, 422, "priority"),
        ({"other": b"x"}, {"image": "x"}, 422, "image"),
        ({"image": b"x"}, {"user": "u" * 300}, 422, "image"),
    ],
    ids=str,
)
def test_other_forms_are_refused(
    noisy: Server, files: dict[str, bytes], data: dict[str, str], status: int, param: str
) -> None:
    error = error_of(noisy.request("POST", PATH, files=files, data=data), status)
    assert error["param"] == param
    error_of(noisy.request("POST", PATH, content=b"{}", headers={"content-type": "application/json"}), 415)


def test_it_goes_on_the_terms_of_a_request(noisy: Server) -> None:
    made = noisy.generate("image/png", **SETTINGS).content
    fields = {"user": "ann", "priority": "low", "deadline_s": "7.5"}
    assert noisy.request("POST", PATH, files={"image": made}, data=fields).status_code == 200
    terms = noisy.orders[1].terms
    assert (terms.tenant, terms.priority, terms.deadline_s) == ("ann", "low", 7.5)
    for name, value in (("deadline_s", "0"), ("user", "u" * 300)):
        refused = noisy.request("POST", PATH, files={"image": made}, data={name: value})
        assert error_of(refused, 422)["param"] == name


def test_it_costs_a_picture_like_any_other(noisy: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    made = noisy.generate("image/png", **SETTINGS).content
    who = Caller("ann", frozenset({"images"}), Allowance(KeyLimits(pictures_per_minute=1, burst=1)))
    monkeypatch.setattr("services.ingress.stories.verify.caller", lambda _: who)
    assert verify(noisy, made).status_code == 200
    assert noisy.orders[1].terms.tenant == "ann"
    refused = error_of(verify(noisy, made), 429)
    assert refused["code"] == "rate_limit_exceeded"
    monkeypatch.undo()
    noisy.admission.draining = True
    error_of(verify(noisy, made), 503)
    assert noisy.uploads.count == 0
    assert noisy.admission.images == 0


def test_only_so_many_uploads_are_taken(noisy: Server) -> None:
    made = noisy.generate("image/png", **SETTINGS).content
    noisy.uploads.count = noisy.uploads.most
    error_of(verify(noisy, made), 429)


def test_the_files_are_let_go_of_before_the_drawing(noisy: Server, photo: Image.Image) -> None:
    seen: list[int] = []

    async def draw(order: Order) -> Drawn:
        seen.append(noisy.uploads.count)
        return await draw_noise(order)

    made, other = noisy.generate("image/png", **SETTINGS).content, edited(noisy, photo, None)
    noisy.draw = draw
    verified(noisy, made)
    verified(noisy, other, source=png(photo))
    assert seen == [0, 0]


def test_it_says_nothing_of_a_canary(noisy: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    made = noisy.generate("image/png", **SETTINGS).content
    told: list[Any] = []
    monkeypatch.setattr(noisy.pinning, "ended", told.append)
    verified(noisy, made)
    assert told == []


def test_another_request_that_a_server_makes_of_it_is_refused(noisy: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a bundle reads a field otherwise than the one that made the picture."""
    made = noisy.generate("image/png", **SETTINGS).content

    def other(*arguments: Any) -> Order:
        order = order_of(*arguments)
        return replace(order, request=replace(order.request, eta=0.25))

    monkeypatch.setattr(face, "order_of", other)
    error = error_of(verify(noisy, made), 422)
    assert error["message"] == "image: its story's eta=0.0: would be 0.25 here"


def control(seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 60, 3), dtype=np.uint8))


@pytest.fixture
def held_picture(noisy: Server, live: LiveModel) -> bytes:
    """A picture that a ControlNet and an adapter held."""
    with_controls(noisy, live)
    controls = [
        {"model": pin.name, "image": base64.b64encode(png(control(seed))).decode(), "scale": 0.5 + seed}
        for seed, pin in enumerate((EDGES, LINES))
    ]
    response = noisy.generate("image/png", **SETTINGS, controls=controls)
    assert response.status_code == 200, response.text
    return response.content


def control_files(*seeds: int) -> dict[str, bytes]:
    return {f"controls[{number}][image]": png(control(seed)) for number, seed in enumerate(seeds)}


def test_a_picture_that_was_held_is_made_again_with_what_held_it(noisy: Server, held_picture: bytes) -> None:
    said = verified(noisy, held_picture, **control_files(0, 1))
    assert said["equal"] is True
    assert [one["present"]["name"] for one in said["components"]][-2:] == [EDGES.name, LINES.name]
    assert [one["width"] for one in said["made_from"]["controls"]] == [128, 128]
    assert [one["model"] for one in said["request"]["controls"]] == [str(EDGES), str(LINES)]
    first, second = noisy.orders
    assert second.request == first.request
    assert second.beside == first.beside
    for ours, theirs in zip(first.controls, second.controls, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("files", "param", "said"),
    [
        (control_files(0), "controls[1][image]", "is required, and must be a file"),
        ({}, "controls[0][image]", "is required, and must be a file"),
        (control_files(0, 1, 2), "controls[2][image]", "must be left out: the picture was made without one"),
        (control_files(0, 2), "controls[1][image]", "is another than the picture was made from: in 128x64"),
        ({**control_files(0), "controls[1][image]": b"no picture"}, "controls[1].image", "must be a picture"),
    ],
)
def test_what_held_a_picture_must_be_what_its_story_tells(
    noisy: Server, held_picture: bytes, files: dict[str, bytes], param: str, said: str
) -> None:
    error = error_of(verify(noisy, held_picture, **files), 422)
    assert error["param"] == param
    assert said in error["message"]


def test_another_controlnet_under_the_same_number_is_refused(noisy: Server, held_picture: bytes) -> None:
    _, contract = noisy.controller.versions[str(EDGES)]
    noisy.controller.versions[str(EDGES)] = (EDGES.model_copy(update={"sha256": "d" * 64}), contract)
    error = error_of(verify(noisy, held_picture, **control_files(0, 1)), 422)
    assert error["param"] == "image"
    assert f"toy.controlnet.edges/1 has the sha256 {'d' * 64} here, not {'a' * 64}" in error["message"]


def test_a_story_that_does_not_tell_which_controlnet_is_refused(noisy: Server, held_picture: bytes) -> None:
    story = story_of(held_picture)
    for changed, said in (
        (replace(story, beside=story.beside[1:]), "does not tell which version of toy.controlnet.edges/1 made it"),
        (replace(story, origin=NOISE), "was held by other pictures, and its story does not tell which"),
    ):
        out = io.BytesIO()
        Image.open(io.BytesIO(held_picture)).save(out, "PNG", **png_options(changed))
        error = error_of(verify(noisy, out.getvalue(), **control_files(0, 1)), 422)
        assert said in error["message"]
