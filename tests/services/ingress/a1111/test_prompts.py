"""Prompts as A1111's clients write them: what of its grammar is not here is refused, and nothing else."""

import json
from typing import Any

import pytest

from tests.services.ingress.a1111.conftest import refused, request_of, txt2img

Server = Any


@pytest.mark.parametrize("field", ["prompt", "negative_prompt"])
def test_an_extra_network_is_refused_where_it_is_not_meant_as_words(server: Server, field: str) -> None:
    text = "an apple <lora:secret-name:0.8>"
    error = refused(txt2img(server, **{field: text}), 422)
    assert error["detail"].startswith(f"{field}: names an extra network")
    assert "secret-name" not in json.dumps(error)
    assert txt2img(server, **{field: text}, disable_extra_networks=True).status_code == 200
    assert txt2img(server, **{field: "a < b > c <3"}).status_code == 200


CHANGING = [
    "[a boat:an apple:0.5]",
    "[an apple:10]",
    "[an apple::3]",
    "[(a boat:1.2):an apple: .5 ]",
    "a [boat|apple]",
    "a [red|] apple",
    "([a [red:green:+0.3] apple])",
    "((a) [b|c]",
]


# A1111 takes these for text and weights
STAYING = [
    "[a boat]",
    "[a: boat]",
    "a (boat:1.2) [and (an apple:0.3)]",
    r"\[a boat:an apple:0.5\]",
    r"a \[boat|apple\]",
    "a boat: 0.5",
    "a | b",
    "[(a|b)]",
    "[a|b",
    "a|b]",
    "[:]",
]


@pytest.mark.parametrize("text", CHANGING)
def test_a_prompt_that_would_change_while_it_is_drawn_is_refused(server: Server, text: str) -> None:
    for field in ("prompt", "negative_prompt"):
        error = refused(txt2img(server, **{field: text}), 422)
        assert error["detail"].startswith(f"{field}: has [from:to:when] or [one|other]")
        assert text not in json.dumps(error)
    assert not server.orders
    assert request_of(server, prompt=text, override_settings={"emphasis": "None"}).prompt == text


@pytest.mark.parametrize("text", STAYING)
def test_a_prompt_that_only_looks_so_is_drawn(server: Server, text: str) -> None:
    assert request_of(server, prompt=text, negative_prompt=text).prompt == text


def test_prompts_that_are_drawn_together_are_refused(server: Server) -> None:
    assert "prompt: has AND" in refused(txt2img(server, prompt="a boat AND an apple"), 422)["detail"]
    for text in ("a boat and an apple", "a BAND", "ANDES"):
        assert request_of(server, prompt=text).prompt == text
    # A1111 takes it for a word there
    assert request_of(server, negative_prompt="a AND b").negative_prompt == "a AND b"
