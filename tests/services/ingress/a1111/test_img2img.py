"""Image to image as A1111's clients ask for it: what is drawn, from what, and what is refused by name."""

import base64
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from diffusers.image_processor import VaeImageProcessor
from PIL import Image

from components.contract import ImageChannels, Kind, TensorSpec
from pipeline.source_pictures import image_pixels
from services.messages import LiveModel, Order
from tests.pipeline import hostile
from tests.services.conftest import record_of
from tests.services.ingress.a1111.conftest import (
    MOST_PIXELS,
    box_mask,
    encoded,
    img2img,
    only,
    refused,
)
from tests.services.ingress.conftest import draw_at_once

Server = Any


def test_a_picture_is_drawn_from(server: Server, api: Any, photo: Image.Image) -> None:
    result = api.img2img(images=[photo], prompt="a red apple", seed=7, steps=20, width=64, height=64)
    order, source = only(server)
    # A1111's default
    assert (order.request.strength, order.request.seed, order.request.steps) == (0.75, 7, 20)
    np.testing.assert_array_equal(source.pixels, image_pixels(photo, 64, 64, MOST_PIXELS))
    assert source.mask is None
    assert (result.image.size, result.image.getpixel((0, 0))) == ((64, 64), (7, 7, 7))
    assert result.info["denoising_strength"] == 0.75
    assert result.parameters["init_images"] is None


def test_the_strength_is_the_share_of_the_steps(server: Server, photo: Image.Image) -> None:
    assert img2img(server, photo, denoising_strength=0.4).status_code == 200
    assert only(server)[0].request.strength == 0.4


def test_a_picture_may_come_as_a_data_url(server: Server, photo: Image.Image) -> None:
    given = f"data:image/png;base64,{encoded(photo)}"
    assert img2img(server, None, init_images=[given]).status_code == 200
    np.testing.assert_array_equal(only(server)[1].pixels, image_pixels(photo, 64, 64, MOST_PIXELS))


def test_the_answer_repeats_the_pictures_where_that_is_asked_for(server: Server, photo: Image.Image) -> None:
    mask = encoded(box_mask(photo.size, (0, 0, 64, 64)))
    for asked, there in ((True, True), (False, False)):
        told = img2img(server, photo, mask=mask, include_init_images=asked).json()["parameters"]
        assert (told["init_images"] == [encoded(photo)], told["mask"] == mask) == (there, there)
        assert (told["resize_mode"], told["mask_blur_x"]) == (0, 4)


def test_a_picture_is_cropped_or_given_room_in_its_proportions(server: Server) -> None:
    """Twice as wide as it is high: red, then blue, with a white line on top."""
    wide = Image.new("RGB", (128, 64), "red")
    wide.paste("blue", (64, 0, 128, 64))
    wide.paste("white", (0, 0, 128, 2))
    for mode in (1, 2):
        assert img2img(server, wide, resize_mode=mode).status_code == 200
    cropped, filled = (order.source.pixels[0] for order in server.orders)
    # the middle square, at its size
    np.testing.assert_array_equal(cropped, np.asarray(wide.crop((32, 0, 96, 64))))
    # all of it in the middle, and its outermost rows above and below
    assert [tuple(filled[32, column]) for column in (8, 56)] == [(255, 0, 0), (0, 0, 255)]
    assert filled[:16].min() > 200
    np.testing.assert_array_equal(filled[:16], np.broadcast_to(filled[0], (16, 64, 3)))
    # where diffusers has it from
    expected = VaeImageProcessor().resize(wide, 64, 64, resize_mode="fill")
    np.testing.assert_array_equal(filled, np.asarray(expected))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("resize_mode", 3),
        ("inpainting_fill", 2),
        ("inpainting_fill", 3),
        ("mask_blur", 65),
        ("mask_blur_y", -1),
        ("inpaint_full_res_padding", 257),
        ("initial_noise_multiplier", 0.5),
        ("latent_mask", "aGVsbG8="),
        ("denoising_strength", 1.5),
        ("enable_hr", False),
        ("hr_scale", 2),
    ],
)
def test_what_is_not_here_is_refused_by_name(server: Server, photo: Image.Image, name: str, value: Any) -> None:
    assert name in refused(img2img(server, photo, **{name: value}), 422)["detail"]
    assert not server.orders
    assert (server.uploads.count, server.admission.images) == (0, 0)


def test_guidance_by_the_picture_is_of_bundles_that_edit_by_instruction(
    server: Server, live: LiveModel, photo: Image.Image
) -> None:
    said = refused(img2img(server, photo, image_cfg_scale=1.25), 422)["detail"]
    assert said == "image_cfg_scale=1.25: must be left out, as this model edits by no instruction"
    denoiser = live.contracts[Kind.DENOISER]
    seen = TensorSpec(name="image_channels", dtype="float32", shape=("batch", 4, "height", "width"))
    looks = {"image_channels": (ImageChannels(source="image", channels=4),), "image_guidance": 1.75}
    changed = denoiser.model_copy(update={"inputs": (*denoiser.inputs, seen), **looks})
    server.pinning.record = record_of(replace(live, contracts={**live.contracts, Kind.DENOISER: changed}))
    for given, guidance in ((None, 1.75), (1.5, 1.5), (2.5, 2.5)):
        assert img2img(server, photo, image_cfg_scale=given, denoising_strength=1).status_code == 200
        assert server.orders[-1].request.image_guidance == guidance
    said = refused(img2img(server, photo, denoising_strength=0.5), 422)["detail"]
    assert said.startswith("denoising_strength=0.5: must be 1 or left out, as this model draws from noise alone")


def test_what_every_client_sends_is_taken(server: Server, photo: Image.Image) -> None:
    inert: dict[str, Any] = {
        "image_cfg_scale": 1.5,
        "initial_noise_multiplier": 1,
        "latent_mask": None,
        "mask": None,
        "mask_blur": None,
        "inpaint_full_res": 0,
        "script_args": [],
        "s_noise": 1.0,
    }
    assert img2img(server, photo, **inert).status_code == 200


@pytest.mark.parametrize("pictures", [None, []])
def test_without_a_picture_it_is_not_found(server: Server, pictures: Any) -> None:
    error = refused(img2img(server, None, init_images=pictures), 404)
    assert error["detail"] == "Init image not found"


@pytest.mark.parametrize("text", ["aGVsbG8=", "%%%", "data:image/png;base64,", "x" * 5])
def test_a_text_that_is_no_picture_is_an_invalid_encoded_image(server: Server, photo: Image.Image, text: str) -> None:
    assert refused(img2img(server, None, init_images=[text]), 422)["detail"] == "Invalid encoded image"
    assert refused(img2img(server, photo, mask=text), 422)["errors"].startswith("mask: ")
    assert server.uploads.count == 0


def test_a_file_that_lies_is_refused_in_words(server: Server, photo: Image.Image) -> None:
    def said(field: str, file: bytes) -> str:
        text = base64.b64encode(file).decode()
        pictures = {"mask": text} if field == "mask" else {"init_images": [text]}
        answer = refused(img2img(server, photo if field == "mask" else None, **pictures), 422)
        return str(answer["errors"])

    for field in ("init_images", "mask"):
        assert f"{field}=50000x50000: must have 1 to 16777216 pixels" in said(field, hostile.huge("PNG"))
        assert f"{field}: is animated; send one of its pictures" in said(field, hostile.animated())
    assert server.uploads.count == 0


def test_a_link_is_not_followed(server: Server) -> None:
    error = refused(img2img(server, None, init_images=["http://127.0.0.1:1/x.png"]), 422)
    assert "links are not followed" in error["detail"]
    assert "127.0.0.1" not in json.dumps(error)


def test_two_pictures_are_one_too_many(server: Server, photo: Image.Image) -> None:
    assert "must have one" in refused(img2img(server, None, init_images=[encoded(photo)] * 2), 422)["detail"]


def test_a_picture_with_too_many_pixels_is_refused(server: Server) -> None:
    large = Image.new("1", (5000, 5000))
    assert refused(img2img(server, large), 422)["detail"].startswith("init_images=5000x5000: must have 1 to")
    small = Image.new("1", (64, 64))
    assert refused(img2img(server, small, mask=encoded(large)), 422)["detail"].startswith("mask=5000x5000")


def test_pictures_in_hand_are_bounded_while_they_are_laid_into(server: Server, photo: Image.Image) -> None:
    """A request without a mask keeps no picture once it is decoded; one with a mask does until its end."""
    seen = []

    async def watch(order: Order, _every: int) -> Any:
        seen.append(server.uploads.count)
        yield await draw_at_once(order)

    server.watch = watch
    assert img2img(server, photo).status_code == 200
    assert img2img(server, photo, mask=encoded(box_mask(photo.size, (0, 0, 64, 64)))).status_code == 200
    assert seen == [0, 1]
    assert server.uploads.count == 0
