"""Pictures enlarged, and what their files say, as A1111's clients ask for it."""

import json
from typing import Any

import numpy as np
import pytest
from PIL import Image

from components.contract import Kind
from tests.services.ingress.a1111.conftest import encoded, opened, post, refused

Server = Any
LANCZOS, NEAREST = Image.Resampling.LANCZOS, Image.Resampling.NEAREST


def enlarged(server: Server, picture: Image.Image, **body: Any) -> Image.Image:
    response = post(server, "extra-single-image", image=encoded(picture), **body)
    assert response.status_code == 200, response.text
    assert response.json().keys() == {"html_info", "image"}
    return opened(response.json()["image"])


def assert_same(made: Image.Image, expected: Image.Image) -> None:
    np.testing.assert_array_equal(np.asarray(made), np.asarray(expected))


@pytest.mark.parametrize(("name", "filter_"), [("Lanczos", LANCZOS), ("Nearest", NEAREST)])
def test_a_picture_is_enlarged_as_pillow_does(api: Any, photo: Image.Image, name: str, filter_: Any) -> None:
    result = api.extra_single_image(photo, upscaler_1=name, upscaling_resize=1.5)
    assert_same(result.image, photo.resize((192, 144), filter_))
    assert name in result.info


def test_two_upscalers_are_blended(server: Server, photo: Image.Image) -> None:
    body = {"upscaler_1": "Lanczos", "upscaler_2": "Nearest", "extras_upscaler_2_visibility": 0.25}
    first, second = (photo.resize((256, 192), one) for one in (LANCZOS, NEAREST))
    assert_same(enlarged(server, photo, **body), Image.blend(first, second, 0.25))


def test_to_a_size_it_is_enlarged_until_it_covers_it_and_cropped(server: Server, photo: Image.Image) -> None:
    body = {"resize_mode": 1, "upscaling_resize_w": 192, "upscaling_resize_h": 192, "upscaler_1": "Nearest"}
    covering = photo.resize((256, 192), NEAREST)
    assert_same(enlarged(server, photo, **body), covering.crop((32, 0, 224, 192)))
    assert_same(enlarged(server, photo, **body, upscaling_crop=False), covering)


def test_without_an_upscaler_it_stays(server: Server, photo: Image.Image) -> None:
    assert_same(enlarged(server, photo), photo)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("upscaler_1", "R-ESRGAN 4x+"),
        ("upscaler_2", "SwinIR_4x"),
        ("gfpgan_visibility", 0.5),
        ("codeformer_visibility", 1),
        ("upscaling_resize", 9),
        ("extras_upscaler_2_visibility", 2),
        ("resize_mode", 2),
    ],
)
def test_what_is_not_here_is_refused_by_name(server: Server, photo: Image.Image, name: str, value: Any) -> None:
    body = {"image": encoded(photo), "upscaler_1": "Lanczos", name: value}
    assert name in refused(post(server, "extra-single-image", **body), 422)["detail"]


def test_the_enlarged_picture_has_a_limit(server: Server) -> None:
    large = encoded(Image.new("1", (3000, 3000)))
    error = refused(post(server, "extra-single-image", image=large, upscaler_1="Nearest"), 422)
    assert "image=6000x6000 once enlarged" in error["detail"]
    wide = encoded(Image.new("1", (1, 3000)))
    body = {"image": wide, "upscaler_1": "Nearest", "resize_mode": 1, "upscaling_resize_w": 60_000}
    assert "once enlarged" in refused(post(server, "extra-single-image", **body), 422)["detail"]
    assert server.uploads.count == 0


@pytest.mark.parametrize("path", ["extra-single-image", "png-info"])
def test_a_text_that_is_no_picture_is_an_invalid_encoded_image(server: Server, path: str) -> None:
    for text in ("aGVsbG8=", "%%%", "x"):
        assert refused(post(server, path, image=text), 422)["detail"] == "Invalid encoded image"
    assert server.uploads.count == 0


def test_a_picture_of_ours_tells_how_to_make_it_again(server: Server, api: Any) -> None:
    drawn = api.txt2img(
        prompt="a red apple",
        negative_prompt="blue",
        seed=9,
        steps=8,
        cfg_scale=3.5,
        width=128,
        height=64,
        sampler_name="DPM++ 2M",
        scheduler="karras",
        subseed=4,
        subseed_strength=0.5,
        override_settings={"randn_source": "NV"},
    )
    told = api.png_info(drawn.image)
    assert told.info == drawn.image.text["parameters"]
    assert json.loads(told.json["items"]["latentworks"])["seed"] == 9
    live = server.pinning.record.live
    decoder = live.pins[Kind.VAE_DECODER]
    server.controller.versions[str(decoder)] = (decoder, live.contracts[Kind.VAE_DECODER])
    again = post(server, "txt2img", **told.parameters)
    assert again.status_code == 200, again.text
    assert server.orders[-1].request == server.orders[-2].request


def test_a_picture_of_a1111s_tells_too(api: Any) -> None:
    text = "a boat\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 64x64, Model: sd15, Clip skip: 2"
    picture = Image.new("RGB", (8, 8))
    picture.info["parameters"] = text
    told = api.png_info(picture)
    assert told.info == text
    assert told.json["items"] == {}
    assert told.parameters == {
        "prompt": "a boat",
        "steps": 20,
        "sampler_name": "Euler a",
        "cfg_scale": 7.0,
        "seed": 1,
        "width": 64,
        "height": 64,
        # what A1111 has where it names none, but for the layer
        "override_settings": {"CLIP_stop_at_last_layers": 2, "randn_source": "NV", "emphasis": "Original"},
    }


def test_a_picture_without_texts_tells_nothing(server: Server, photo: Image.Image) -> None:
    told = post(server, "png-info", image=f"data:image/webp;base64,{encoded(photo, 'WEBP')}").json()
    assert told == {"info": "", "items": {}, "parameters": {}}
