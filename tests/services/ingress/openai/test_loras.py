"""LoRAs that a request names: what becomes of them, what is told of them, and what is refused."""

from typing import Any

import pytest

from components.messages import LoraChoice
from pipeline.story.reading import read_story
from services.messages import LiveModel
from tests.services.ingress.conftest import Server, error_of
from tests.services.ingress.controls import EDGES, INK, STYLE, with_controls
from tests.services.ingress.openai.test_controls import EDITS, control, drawing, png

CHOSEN = (LoraChoice(str(STYLE), 0.8), LoraChoice(str(INK), 1.0))


@pytest.fixture
def held(server: Server, live: LiveModel) -> Server:
    with_controls(server, live)
    return server


def test_an_order_has_their_exact_versions_and_so_has_its_story(held: Server) -> None:
    asked = [{"model": STYLE.name, "scale": 0.8}, {"model": "toy.lora.ink/1"}]
    made = held.generate("image/png", prompt="a red apple", loras=asked, controls=[control()])
    assert made.status_code == 200, made.text
    [order] = held.orders
    assert order.request.loras == CHOSEN
    assert (order.loras, order.beside) == ((STYLE, INK), (EDGES, STYLE, INK))
    story = read_story(made.content).story
    assert story is not None
    assert (story.settings["loras"], story.beside) == (CHOSEN, (EDGES, STYLE, INK))


def test_a_picture_is_drawn_again_with_its_loras(held: Server) -> None:
    made = held.generate("image/png", prompt="a red apple", loras=[{"model": STYLE.name, "scale": -0.5}])
    told = held.request("POST", "/v1/verify", files={"image": made.content})
    assert told.status_code == 200, told.text
    assert told.json()["request"]["loras"] == [{"model": str(STYLE), "scale": -0.5}]
    first, second = held.orders
    assert (second.request, second.beside) == (first.request, first.beside)


def test_an_edit_names_them_in_its_form(held: Server) -> None:
    fields = {"prompt": "a", "loras[0][model]": STYLE.name, "loras[0][scale]": "0.8", "loras[1][model]": INK.name}
    answer = held.request("POST", EDITS, files={"image": png(drawing())}, data=fields)
    assert answer.status_code == 200, answer.text
    assert held.orders[0].request.loras == CHOSEN


@pytest.mark.parametrize(
    ("loras", "param", "words"),
    [
        ([{"model": f"toy.lora.l{number}"} for number in range(5)], "loras", "must be at most 4"),
        ([{"model": STYLE.name, "scale": 101}], "loras", "a scale between -100 and 100"),
        ([{"scale": 1}], "loras[0].model", "is required"),
        ([{"model": STYLE.name, "weight": 1}], "loras[0].weight", "no such field"),
        ([{"model": EDGES.name}], "loras[0].model", "is a controlnet, must be a lora"),
        ([{"model": "toy.lora.none"}], "loras[0].model", "is not in the registry"),
        ([{"model": STYLE.name}, {"model": "toy.lora.style/1"}], "loras[1].model", "must be named once"),
        (
            [{"model": "toy.lora.foreign"}],
            "loras[0].model",
            "toy.lora.foreign/1 is for another denoiser: other: the denoiser takes no LoRA there",
        ),
    ],
)
def test_what_is_refused(held: Server, loras: Any, param: str, words: str) -> None:
    error = error_of(held.generate(prompt="a red apple", loras=loras), 422)
    assert error["param"] == param
    assert words in error["message"], error["message"]
    assert held.orders == []


def test_nobody_is_asked_where_the_denoiser_takes_none(server: Server) -> None:
    error = error_of(server.generate(prompt="a red apple", loras=[{"model": STYLE.name}]), 422)
    assert (error["param"], error["message"]) == ("loras", "loras: must be left out, as this model takes none")
    assert server.controller.asked == []
