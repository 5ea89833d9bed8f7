"""Control pictures that a request brings: what becomes of them, what is told of them, and what is refused."""

import base64
import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from components.contract import Kind
from components.messages import ControlChoice
from pipeline.request import RequestRules
from pipeline.source_pictures import image_pixels
from pipeline.story.origin import PixelsDigest
from pipeline.story.reading import read_story
from services.messages import LiveModel
from tests.pipeline import hostile
from tests.services.conftest import CONTRACTS, record_of
from tests.services.controlled import CONTROLLED
from tests.services.ingress.conftest import Server, error_of
from tests.services.ingress.controls import EDGES, LINES, with_controls

EDITS = "/v1/images/edits"
MOST_PIXELS = RequestRules().max_source_pixels


def png(picture: Image.Image) -> bytes:
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


def drawing(seed: int = 0, size: tuple[int, int] = (50, 30)) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(noise)


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


PICTURE = text(png(drawing()))


@pytest.fixture
def held(server: Server, live: LiveModel) -> Server:
    with_controls(server, live)
    return server


def control(**more: Any) -> dict[str, Any]:
    return {"model": EDGES.name, "image": PICTURE, **more}


def test_an_order_has_the_exact_versions_and_the_pictures_in_the_size_that_is_drawn(held: Server) -> None:
    asked = [
        control(scale=0.7, end=0.5),
        control(model="toy.adapter.lines/2", image=f"data:image/png;base64,{text(png(drawing(1)))}"),
    ]
    answer = held.generate(prompt="a red apple", size="128x64", controls=asked)
    assert answer.status_code == 200, answer.text
    [order] = held.orders
    assert order.request.controls == (
        ControlChoice(model="toy.controlnet.edges/1", scale=0.7, end=0.5),
        ControlChoice(model="toy.adapter.lines/2"),
    )
    assert order.beside == (EDGES, LINES)
    for found, picture in zip(order.controls, (drawing(), drawing(1)), strict=True):
        np.testing.assert_array_equal(found, image_pixels(picture, 128, 64, MOST_PIXELS))
    [by_net], [by_adapter] = (order.controls_of(kind) for kind in (Kind.CONTROLNET, Kind.ADAPTER))
    assert (by_net.pin, by_net.picture.scale, by_net.picture.end) == (EDGES, 0.7, 0.5)
    assert by_adapter.pin == LINES


def test_a_picture_tells_what_held_it(held: Server) -> None:
    made = held.generate("image/png", prompt="a red apple", controls=[control(start=0.25)])
    story = read_story(made.content).story
    assert story is not None
    assert story.beside == (EDGES,)
    assert story.settings["controls"] == (ControlChoice(model=str(EDGES), start=0.25),)
    seen = image_pixels(drawing(), 64, 64, MOST_PIXELS)
    assert story.origin.controls == (PixelsDigest.of(seen[0]),)


def test_an_edit_is_held_by_files_or_by_texts(held: Server) -> None:
    fields = {
        "prompt": "a red apple",
        "size": "64x64",
        "controls[0][model]": EDGES.name,
        "controls[0][scale]": "0.5",
        "controls[1][model]": LINES.name,
        "controls[1][image]": PICTURE,
    }
    files = {"image": png(drawing(3)), "controls[0][image]": png(drawing(1))}
    answer = held.request("POST", EDITS, files=files, data=fields)
    assert answer.status_code == 200, answer.text
    [order] = held.orders
    assert order.source is not None
    assert [(one.model, one.scale) for one in order.request.controls] == [(str(EDGES), 0.5), (str(LINES), 1.0)]
    for found, picture in zip(order.controls, (drawing(1), drawing()), strict=True):
        np.testing.assert_array_equal(found, image_pixels(picture, 64, 64, MOST_PIXELS))


@pytest.mark.parametrize(
    ("fields", "files", "param", "words"),
    [
        ({"controls[0][model]": "x"}, {}, "controls[0].image", "controls[0].image: is required"),
        ({"controls[1][model]": "x"}, {}, "controls", "must be numbered from 0 on"),
        ({"controls[0][image]": "x"}, {"controls[0][image]": b"y"}, "controls", "is there twice"),
        ({"controls[model]": "x", "controls[0][model]": "x"}, {}, "controls", "is there twice"),
        ({"controls[0][model]": "x", "controls[model]": "x"}, {}, "controls", "is there twice"),
        ({"controls": "[]"}, {}, "controls", "must be a list"),
        ({}, {"controls[9][image]": b"y"}, "controls", "must be numbered from 0 on"),
    ],
)
def test_a_form_that_says_it_otherwise(
    held: Server, fields: dict[str, str], files: dict[str, bytes], param: str, words: str
) -> None:
    sent = {"image": png(drawing(3)), **files}
    error = error_of(held.request("POST", EDITS, files=sent, data={"prompt": "a", **fields}), 422)
    assert error["param"] == param
    assert words in error["message"]
    assert held.orders == []


@pytest.mark.parametrize(
    ("controls", "param", "words"),
    [
        ([control()] * 5, "controls", "controls: has 5 pictures, must have at most 4"),
        ([control(scale=2.5)], "controls[0].scale", "controls[0].scale=2.5: must be a number between 0 and 2"),
        ([control(), control(start=0.5, end=0.5)], "controls[1].start", "must be less than its end, 0.5"),
        ([control(scale="1")], "controls[0].scale", "must be a number"),
        ([control(strength=1)], "controls[0].strength", "no such field; there are"),
        ([{"model": EDGES.name}], "controls[0].image", "is required"),
        ([{"image": PICTURE}], "controls[0].model", "is required"),
        ({}, "controls", "must be a list"),
        ([control(model="edges")], "controls[0].model", "must be <bundle>.<kind> or <bundle>.<kind>.<name>"),
        ([control(model="toy.controlnet.edges@")], "controls[0].model", "must be NAME@ALIAS or NAME/VERSION"),
        ([control(model="toy.denoiser")], "controls[0].model", "is a denoiser, must be a controlnet or adapter"),
        ([control(model="x" * 300)], "controls[0].model", "has 311 characters, must have at most 256"),
        ([control(model="toy.controlnet.none")], "controls[0].model", "is not in the registry"),
        (
            [control(), control(model="toy.controlnet.narrow")],
            "controls[1].model",
            "must be one for this denoiser: control_0 dimension 1: controlnet gives 4, denoiser takes 64",
        ),
        ([control(image="a")], "controls[0].image", "must be a picture's file in base64"),
        ([control(image=text(b"no picture"))], "controls[0].image", "must be a picture, one of PNG"),
        ([control(image="https://pictures.example/edges.png")], "controls[0].image", "links are not followed"),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) < 40 else "",
)
def test_what_is_refused(held: Server, controls: Any, param: str, words: str) -> None:
    error = error_of(held.generate(prompt="a red apple", controls=controls), 422)
    assert error["param"] == param
    assert words in error["message"], error["message"]
    assert held.orders == []
    assert held.admission.images == 0


@pytest.mark.parametrize("more", [{"hires": {"scale": 2}}])
def test_what_is_drawn_in_another_size_too_is_held_by_nothing(held: Server, more: dict[str, Any]) -> None:
    error = error_of(held.generate(prompt="a red apple", controls=[control()], **more), 422)
    [other] = more
    assert (error["param"], error["message"]) == ("controls", f"controls: must be left out with {other}")
    assert held.orders == []


def test_nobody_is_asked_where_the_denoiser_takes_none(server: Server) -> None:
    error = error_of(server.generate(prompt="a red apple", controls=[control()]), 422)
    assert (error["param"], error["message"]) == ("controls", "controls: must be left out, as this model takes none")
    assert server.controller.asked == []


@pytest.mark.parametrize("kind", [Kind.CONTROLNET, Kind.ADAPTER])
def test_a_denoiser_that_takes_one_kind_refuses_the_other(held: Server, live: LiveModel, kind: Kind) -> None:
    prefix = "control_" if kind == Kind.ADAPTER else "adapter_"
    inputs = [spec for spec in CONTROLLED.inputs if spec.name.startswith(prefix)]
    denoiser = CONTRACTS[Kind.DENOISER].model_copy(update={"inputs": (*CONTRACTS[Kind.DENOISER].inputs, *inputs)})
    held.pinning.record = record_of(replace(live, contracts={**live.contracts, Kind.DENOISER: denoiser}))
    model = EDGES.name if kind == Kind.CONTROLNET else LINES.name
    error = error_of(held.generate(prompt="a red apple", controls=[control(model=model)]), 422)
    assert error["param"] == "controls[0].model"
    assert f"the denoiser takes nothing of a {kind}" in error["message"]


def test_a_picture_of_very_many_pixels_in_a_few_bytes_is_refused_by_its_size(held: Server) -> None:
    error = error_of(held.generate(prompt="a", controls=[control(image=text(hostile.huge("PNG")))]), 422)
    assert error["param"] == "controls[0].image"
    assert "must have 1 to" in error["message"]


def test_a_long_body_takes_a_place_among_uploads_and_gives_it_back(held: Server) -> None:
    large = text(png(drawing(5, (800, 700))))
    assert len(large) > 2**20
    assert held.generate(prompt="a", controls=[control(image=large)]).status_code == 200
    assert held.uploads.count == 0
    held.uploads.count = held.uploads.most
    assert held.generate(prompt="a", controls=[control(image=large)]).status_code == 429
    assert held.generate(prompt="a", controls=[control()]).status_code == 200
