"""Masks as A1111 has them: what is drawn of a picture, from which colours, and where it is laid back."""

import json
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFilter

from pipeline.source_pictures import image_pixels
from tests.services.ingress.a1111.conftest import (
    MOST_PIXELS,
    box_mask,
    encoded,
    img2img,
    only,
    opened,
    pixels,
    refused,
)

Server = Any


def test_a_hard_mask_is_drawn_where_it_is_light_and_kept_to_the_bit_where_it_is_not(
    server: Server, api: Any, photo: Image.Image
) -> None:
    square = photo.resize((64, 64))
    result = api.img2img(
        images=[square],
        mask_image=box_mask((64, 64), (32, 0, 64, 64)),
        mask_blur=0,
        inpaint_full_res=False,
        inpainting_fill=1,
        prompt="a red apple",
        seed=200,
        width=64,
        height=64,
    )
    _, source = only(server)
    assert source.mask is not None
    expected = np.zeros((8, 8), bool)
    expected[:, 4:] = True
    np.testing.assert_array_equal(source.mask, expected)
    np.testing.assert_array_equal(source.pixels, image_pixels(square, 64, 64, MOST_PIXELS))
    np.testing.assert_array_equal(pixels(result.image)[:, :32], pixels(square)[:, :32])
    assert (pixels(result.image)[:, 32:] == 200).all()


def test_a_blurred_mask_fades_from_the_picture_to_what_is_drawn(server: Server) -> None:
    black = Image.new("RGB", (64, 64))
    mask = box_mask((64, 64), (32, 0, 64, 64))
    body = {"mask": encoded(mask), "mask_blur": 6, "inpaint_full_res": False, "seed": 200}
    picture = opened(img2img(server, black, **body).json()["images"][0])
    shown = pixels(picture)[32, :, 0]
    # A1111's overlay: twice the blurred mask
    blurred = np.asarray(mask.filter(ImageFilter.GaussianBlur(6)), np.float64)[32]
    np.testing.assert_allclose(shown, np.minimum(255, 2 * blurred) / 255 * 200, atol=1.5)
    assert (np.diff(shown) >= 0).all()
    assert (shown[0], shown[-1]) == (0, 200)


def test_blur_may_differ_across_and_down(server: Server) -> None:
    mask = encoded(box_mask((64, 64), (24, 24, 40, 40)))
    body = {"mask": mask, "mask_blur_x": 8, "mask_blur_y": 0, "inpaint_full_res": False, "seed": 200}
    shown = pixels(opened(img2img(server, Image.new("RGB", (64, 64)), **body).json()["images"][0]))[..., 0]
    assert (shown[:24] == 0).all()
    assert (shown[40:] == 0).all()
    assert 0 < shown[32, 20] < 200


def test_only_what_is_masked_is_drawn_in_the_whole_size_and_laid_back(
    server: Server, api: Any, photo: Image.Image
) -> None:
    result = api.img2img(
        images=[photo],
        mask_image=box_mask(photo.size, (40, 30, 72, 62)),
        mask_blur=0,
        inpainting_fill=1,
        inpaint_full_res=True,
        inpaint_full_res_padding=8,
        prompt="a red apple",
        seed=200,
        width=64,
        height=64,
    )
    order, source = only(server)
    assert (order.request.width, order.request.height) == (64, 64)
    # 8 pixels around a square are a square, 48 pixels wide, drawn in 64
    crop = photo.crop((32, 22, 80, 70))
    np.testing.assert_allclose(source.pixels[0], pixels(crop.resize((64, 64), Image.Resampling.LANCZOS)), atol=1)
    assert source.mask is not None
    assert source.mask.sum() == pytest.approx(64 * (32 / 48) ** 2, abs=8)
    assert result.image.size == photo.size
    shown, before = pixels(result.image), pixels(photo)
    assert (shown[30:62, 40:72] == 200).all()
    shown[30:62, 40:72] = before[30:62, 40:72]
    np.testing.assert_array_equal(shown, before)


@pytest.mark.parametrize(
    ("box", "size", "expected"),
    [
        # as wide as it is high, at an edge: what is over goes to the other side
        ((0, 0, 16, 32), (64, 64), (0, 0, 32, 32)),
        ((112, 64, 128, 96), (64, 64), (96, 64, 128, 96)),
        ((40, 40, 80, 60), (64, 64), (40, 30, 80, 70)),
        ((40, 40, 60, 60), (128, 64), (30, 40, 70, 60)),
        # no room for the proportions
        ((0, 0, 128, 8), (64, 64), (0, 0, 128, 96)),
    ],
)
def test_the_part_that_is_drawn_has_the_proportions_of_the_size(
    server: Server,
    photo: Image.Image,
    box: tuple[int, int, int, int],
    size: tuple[int, int],
    expected: tuple[int, int, int, int],
) -> None:
    asked = {"width": size[0], "height": size[1], "mask_blur": 0, "inpainting_fill": 1}
    assert img2img(server, photo, mask=encoded(box_mask(photo.size, box)), **asked).status_code == 200
    drawn = only(server)[1].pixels[0]
    part = photo.crop(expected)
    if part.width * size[1] == part.height * size[0]:
        np.testing.assert_allclose(drawn, pixels(part.resize(size, Image.Resampling.LANCZOS)), atol=1)
    else:
        room = (size[1] - round(size[0] * part.height / part.width)) // 2
        middle = drawn[room : size[1] - room]
        np.testing.assert_allclose(middle, pixels(part.resize((64, 48), Image.Resampling.LANCZOS)), atol=1)


def test_a_mask_may_be_inverted(server: Server, photo: Image.Image) -> None:
    square = photo.resize((64, 64))
    mask = encoded(box_mask((64, 64), (32, 0, 64, 64)))
    body = {"mask": mask, "mask_blur": 0, "inpaint_full_res": False, "inpainting_mask_invert": 1}
    assert img2img(server, square, **body).status_code == 200
    made = only(server)[1].mask
    assert made is not None
    assert made[:, :4].all()
    assert not made[:, 4:].any()


def test_a_mask_with_alpha_says_so_by_what_is_opaque(server: Server, photo: Image.Image) -> None:
    """As A1111's canvas makes it; OpenAI's masks say the opposite."""
    square = photo.resize((64, 64))
    alpha = box_mask((64, 64), (0, 0, 32, 64))
    mask = Image.merge("RGBA", [*Image.new("RGB", (64, 64), "black").split(), alpha])
    body = {"mask": encoded(mask), "mask_blur": 0, "inpaint_full_res": False}
    assert img2img(server, square, **body).status_code == 200
    made = only(server)[1].mask
    assert made is not None
    assert made[:, :4].all()
    assert not made[:, 4:].any()


def test_filling_takes_the_colours_from_around(server: Server) -> None:
    """Red at the left, blue at the right, green where it is drawn anew."""
    picture = Image.new("RGB", (64, 64), "red")
    picture.paste((0, 0, 255), (32, 0, 64, 64))
    picture.paste((0, 255, 0), (16, 16, 48, 48))
    body = {"mask": encoded(box_mask((64, 64), (16, 16, 48, 48))), "mask_blur": 0, "inpaint_full_res": False}
    assert img2img(server, picture, **body, inpainting_fill=0).status_code == 200
    filled = only(server)[1].pixels[0].astype(int)
    kept = np.ones((64, 64), bool)
    kept[16:48, 16:48] = False
    np.testing.assert_array_equal(filled[kept], pixels(picture)[kept])
    assert filled[16:48, 16:48, 1].max() <= 2, "nothing is left of the green"
    assert (filled[20:44, 17, 0] > filled[20:44, 17, 2]).all()
    assert (filled[20:44, 46, 2] > filled[20:44, 46, 0]).all()
    assert filled[16:48, 16:48].sum(-1).min() > 200, "no hole stays black"


def test_filling_everything_leaves_grey(server: Server, photo: Image.Image) -> None:
    assert img2img(server, photo, mask=encoded(Image.new("L", photo.size, 255))).status_code == 200
    assert (only(server)[1].pixels == 128).all()


def test_every_picture_of_a_batch_is_laid_back_and_tells_its_story(server: Server, photo: Image.Image) -> None:
    mask = encoded(box_mask(photo.size, (40, 30, 72, 62)))
    answer = img2img(server, photo, mask=mask, mask_blur=0, seed=100, batch_size=2, n_iter=2).json()
    pictures = [opened(one) for one in answer["images"]]
    assert [one.size for one in pictures] == [photo.size] * 4
    assert [one.getpixel((56, 46)) for one in pictures] == [(seed,) * 3 for seed in (100, 101, 102, 103)]
    assert [one.info["parameters"] for one in pictures] == json.loads(answer["info"])["infotexts"]
    assert [json.loads(one.info["latentworks"])["seed"] for one in pictures] == [100, 101, 102, 103]


@pytest.mark.parametrize("only_masked", [True, False])
def test_a_mask_that_leaves_nothing_to_draw_is_refused(server: Server, photo: Image.Image, only_masked: bool) -> None:
    black = encoded(Image.new("L", photo.size))
    error = refused(img2img(server, photo, mask=black, inpaint_full_res=only_masked), 422)
    assert error["detail"].startswith("mask: leaves nothing to draw")
    assert (server.uploads.count, server.admission.images) == (0, 0)


def test_a_mask_of_another_size_is_taken_for_one_of_the_pictures(server: Server, photo: Image.Image) -> None:
    mask = encoded(box_mask((64, 48), (32, 0, 64, 48)))
    body = {"mask": mask, "mask_blur": 0, "inpaint_full_res": False}
    assert img2img(server, photo, **body).status_code == 200
    made = only(server)[1].mask
    assert made is not None
    assert made[:, 5:].all()
    assert not made[:, :3].any()
