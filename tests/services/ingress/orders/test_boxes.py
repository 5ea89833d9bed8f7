"""Boxes with phrases by HTTP: from a body to the order, its story, and the request that draws it again."""

import io
import json
from dataclasses import replace
from typing import Any

import pytest
from PIL import Image

from components.contract import PHRASE, Contract, Kind, TensorSpec
from components.messages import PhraseBox
from pipeline.request import RequestRules
from pipeline.story.reading import read_story
from services.encoding import METADATA_KEY, describe
from services.ingress.orders.capabilities import capabilities
from services.jobs.orders import read, without_texts, written
from services.messages import LiveModel
from tests.pipeline.test_boxes import BOXED, MOST, WIDTH
from tests.services.conftest import record_of
from tests.services.ingress.conftest import Server, error_of

BODY: dict[str, Any] = {
    "prompt": "a red apple",
    "boxes": [{"phrase": "a fox", "box": [0, 0.25, 0.5, 1]}, {"phrase": "\N{RED APPLE}", "box": [0.5, 0, 1, 0.75]}],
}
TAKEN = (PhraseBox("a fox", (0.0, 0.25, 0.5, 1.0)), PhraseBox("\N{RED APPLE}", (0.5, 0.0, 1.0, 0.75)))
CANARY = "a word of the caller's own"


@pytest.fixture
def live(live: LiveModel) -> LiveModel:
    """The toy bundle, if its denoiser looked at boxes, and its text encoder read phrases."""
    toy, encoder = live.contracts[Kind.DENOISER], live.contracts[Kind.TEXT_ENCODER]
    taken = tuple(spec for spec in BOXED.inputs if spec.optional)
    boxed = Contract(**{**dict(toy), "inputs": (*toy.inputs, *taken)})
    phrase = TensorSpec(name=PHRASE, dtype="float32", shape=("batch", WIDTH))
    reading = Contract(**{**dict(encoder), "outputs": (*encoder.outputs, phrase)})
    return replace(live, contracts={**live.contracts, Kind.DENOISER: boxed, Kind.TEXT_ENCODER: reading})


@pytest.mark.parametrize(("given", "end"), [({}, 0.3), ({"boxes_end": 1}, 1.0), ({"boxes_end": 0}, 0.0)])
def test_boxes_reach_the_order_and_the_pictures_story(server: Server, given: dict[str, Any], end: float) -> None:
    response = server.generate("image/png", **BODY, **given)
    assert response.status_code == 200
    request = server.orders[0].request
    assert (request.boxes, request.boxes_end) == (TAKEN, end)
    told = json.loads(Image.open(io.BytesIO(response.content)).info[METADATA_KEY])
    assert told["boxes"][0] == {"phrase": "a fox", "box": [0.0, 0.25, 0.5, 1.0]}
    assert told["boxes_end"] == end


@pytest.mark.parametrize("end", [0.3, 1.0])
def test_a_picture_is_drawn_again_with_its_boxes(server: Server, live: LiveModel, end: float) -> None:
    for kind, pin in live.pins.items():
        server.controller.versions[str(pin)] = (pin, live.contracts[kind])
    image = server.generate("image/png", **BODY, boxes_end=end).content
    answer = server.request("POST", "/v1/verify", files={"image": ("image.png", image)})
    assert answer.status_code == 200, answer.text
    assert answer.json()["equal"]
    first, again = (order.request for order in server.orders)
    assert first == again
    # what it says was drawn draws it too
    asked = answer.json()["request"]
    assert server.generate(**{name: value for name, value in asked.items() if name != "components"}).status_code == 200
    assert server.orders[2].request == first


def test_boxes_go_where_texts_go(server: Server) -> None:
    assert server.generate(**BODY).status_code == 200
    order = server.orders[0]
    assert read(written(order)).request == order.request
    ended = without_texts(order).request
    assert (ended.prompt, ended.boxes, ended.boxes_end) == ("", (), None)
    assert "fox" not in written(without_texts(order))
    silent = describe(order.request, order.pins, prompts=False)
    assert (silent.settings["boxes"], silent.settings["boxes_end"]) == (None, None)
    assert "fox" not in silent.to_json()
    assert describe(replace(order.request, boxes=()), order.pins, prompts=False).settings["boxes"] == ()


@pytest.mark.parametrize(
    ("given", "param", "said"),
    [
        ({"boxes": [BODY["boxes"][0]] * (MOST + 1)}, "boxes", f"'{MOST + 1} boxes': must be at most {MOST}"),
        ({"boxes": {}}, "boxes", "boxes"),
        ({"boxes": [{"phrase": CANARY}]}, "boxes[0].box", "boxes[0].box: is required"),
        ({"boxes": [{"phrase": [CANARY], "box": [0, 0, 1, 1]}]}, "boxes[0].phrase", "is list, must be text"),
        ({"boxes": [{"phrase": CANARY, "box": [0, 0, 1, "1"]}]}, "boxes[0].box[3]", "is str, must be a number"),
        ({"boxes": [{"phrase": CANARY, "box": [0, 0, 1, 2]}]}, "boxes[0].box", "four numbers from 0 to 1"),
        ({"boxes": [{"phrase": f"{CANARY}\0", "box": [0, 0, 1, 1]}]}, "boxes[0].phrase", "NUL"),
        ({"boxes": [{"phrase": "", "box": [0, 0, 1, 1]}]}, "boxes[0].phrase", "1 to"),
        ({"boxes": [], "boxes_end": 0.5}, "boxes_end", "left out without boxes"),
        ({"boxes_end": "0.5", **BODY}, "boxes_end", "a number"),
        ({"boxes_end": 2, **BODY}, "boxes_end", "between 0 and 1"),
    ],
)
def test_refused_boxes_are_named_and_no_phrase_is_quoted(
    server: Server, given: dict[str, Any], param: str, said: str
) -> None:
    error = error_of(server.generate(**{"prompt": "a", **given}), 422)
    assert error["param"] == param
    assert said in error["message"]
    assert CANARY not in error["message"]
    assert not server.orders


def test_edits_take_none(server: Server) -> None:
    out = io.BytesIO()
    Image.new("RGB", (64, 64)).save(out, "PNG")
    form = {"prompt": "a", "boxes": json.dumps(BODY["boxes"])}
    answer = server.request("POST", "/v1/images/edits", data=form, files={"image": ("a.png", out.getvalue())})
    error = error_of(answer, 422)
    assert error["param"] == "boxes"
    assert "null or left out" in error["message"]
    assert "fox" not in error["message"]


def test_what_may_be_asked_for_is_told(live: LiveModel) -> None:
    told = capabilities(record_of(live), RequestRules())
    assert "boxes" in told.tasks
    assert told.limits.boxes == MOST
    assert capabilities(record_of(live), RequestRules(max_boxes=2)).limits.boxes == 2


def test_a_story_in_a_file_comes_back(server: Server) -> None:
    image = server.generate("image/png", **BODY).content
    story = read_story(image).story
    assert story is not None
    assert story.settings["boxes"] == TAKEN
