"""Pictures to be like: what becomes of them, what is told of them, and what is refused."""

from typing import Any

import numpy as np
import pytest

from components.contract import Kind
from pipeline.image_encoder import square
from pipeline.story.reading import read_story
from services.messages import LiveModel
from tests.pipeline import hostile
from tests.services.controlled import IMAGE_ENCODER, SIDE
from tests.services.ingress.conftest import Server, error_of
from tests.services.ingress.controls import ALIKE, with_controls
from tests.services.ingress.openai.test_controls import EDITS, MOST_PIXELS, PICTURE, drawing, png, text

TWO = [PICTURE, text(png(drawing(1)))]


@pytest.fixture
def held(server: Server, live: LiveModel) -> Server:
    with_controls(server, live)
    return server


def squares(*seeds: int) -> list[Any]:
    assert IMAGE_ENCODER.preprocessing is not None
    return [square(drawing(seed), IMAGE_ENCODER.preprocessing, MOST_PIXELS, "image_prompts") for seed in seeds]


def assert_alike(server: Server, *seeds: int) -> None:
    order = server.orders[-1]
    assert order.pins[Kind.IMAGE_ENCODER] == ALIKE
    for found, expected in zip(order.image_prompts, squares(*seeds), strict=True):
        assert found.shape == (1, SIDE, SIDE, 3)
        np.testing.assert_array_equal(found, expected)


def test_an_order_has_them_as_the_pinned_encoder_sees_them_and_so_has_its_story(held: Server) -> None:
    made = held.generate("image/png", prompt="a red apple", image_prompts=TWO, image_prompt_scale=0.25)
    assert made.status_code == 200, made.text
    assert_alike(held, 0, 1)
    assert held.orders[0].request.image_prompt_scale == 0.25
    story = read_story(made.content).story
    assert story is not None
    assert story.components[Kind.IMAGE_ENCODER] == ALIKE
    assert [one.width for one in story.origin.image_prompts] == [SIDE, SIDE]


def test_an_edit_brings_them_as_files(held: Server) -> None:
    files = {"image": png(drawing(3)), **{f"image_prompts[{number}]": png(drawing(number)) for number in range(2)}}
    answer = held.request("POST", EDITS, files=files, data={"prompt": "a", "image_prompt_scale": "0.5"})
    assert answer.status_code == 200, answer.text
    assert_alike(held, 0, 1)
    for wrong in ({"image_prompts[1]": png(drawing())}, {"image_prompts[00]": png(drawing())}):
        sent = {"image": png(drawing(3)), **wrong}
        error = error_of(held.request("POST", EDITS, files=sent, data={"prompt": "a"}), 422)
        assert error["param"] == "image_prompts"


def test_a_picture_is_drawn_again_with_what_it_is_like(held: Server) -> None:
    made = held.generate("image/png", prompt="a red apple", image_prompts=TWO).content
    files = {"image": made, "image_prompts[0]": png(drawing()), "image_prompts[1]": png(drawing(1))}
    told = held.request("POST", "/v1/verify", files=files)
    assert told.status_code == 200, told.text
    said = told.json()
    assert [one["width"] for one in said["made_from"]["image_prompts"]] == [SIDE, SIDE]
    assert said["components"][-1]["present"]["name"] == ALIKE.name
    assert_alike(held, 0, 1)
    first, second = held.orders
    assert (second.request, second.pins) == (first.request, {kind: first.pins[kind] for kind in second.pins})
    error = error_of(held.request("POST", "/v1/verify", files={**files, "image_prompts[1]": png(drawing(2))}), 422)
    assert (error["param"], "is another than the picture" in error["message"]) == ("image_prompts[1]", True)
    del files["image_prompts[1]"]
    error = error_of(held.request("POST", "/v1/verify", files=files), 422)
    assert (error["param"], "is required" in error["message"]) == ("image_prompts[1]", True)


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"image_prompts": [PICTURE] * 5}, "image_prompts", "'5 pictures': must be at most 4"),
        ({"image_prompts": PICTURE}, "image_prompts", "must be a list"),
        ({"image_prompts": [3]}, "image_prompts[0]", "must be text"),
        ({"image_prompts": [PICTURE, "a"]}, "image_prompts[1]", "must be a picture's file in base64"),
        ({"image_prompts": [text(hostile.huge("PNG"))]}, "image_prompts[0]", "must have 1 to"),
        ({"image_prompts": [PICTURE], "image_prompt_scale": 1.5}, "image_prompt_scale", "a number between 0 and 1"),
        ({"image_prompt_scale": 0.5}, "image_prompt_scale", "left out without image_prompts"),
    ],
)
def test_what_is_refused(held: Server, fields: dict[str, Any], param: str, words: str) -> None:
    error = error_of(held.generate(prompt="a red apple", **fields), 422)
    assert error["param"] == param
    assert words in error["message"], error["message"]
    assert held.orders == []


def test_a_bundle_without_an_encoder_refuses_them(held: Server) -> None:
    del held.controller.versions["toy.image_encoder@production"]
    error = error_of(held.generate(prompt="a red apple", image_prompts=TWO), 422)
    assert error["param"] == "image_prompts"
    assert "toy.image_encoder@production is not in the registry" in error["message"]


def test_nobody_is_asked_where_the_denoiser_takes_none(server: Server) -> None:
    error = error_of(server.generate(prompt="a red apple", image_prompts=TWO), 422)
    assert error["message"] == "image_prompts: must be left out, as this bundle takes none"
    assert server.controller.asked == []
