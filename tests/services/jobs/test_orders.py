"""An order as the store keeps it: nothing of it is lost, and once its job has ended nothing of its pictures is left."""

from dataclasses import fields
from typing import Any

import numpy as np
import pytest

from components.messages import ControlChoice, Source
from components.reference import ComponentRef
from services.jobs.orders import read, without_texts, written, written_pictures
from services.messages import Encoding, LiveModel, Order
from tests.requests import image_request

EDGES = ComponentRef(name="toy.controlnet.edges", version=3, sha256="a" * 64)


def pixels(seed: int) -> Any:
    return np.random.default_rng(seed).integers(0, 256, (1, 64, 64, 3), np.uint8)


def held(live: LiveModel, source: Source | None = None) -> Order:
    choices = (ControlChoice(model=str(EDGES), scale=0.5), ControlChoice(model=str(EDGES), end=0.25))
    request = image_request(controls=choices)
    return Order(
        request,
        live.pins,
        Encoding(),
        beside=(EDGES,),
        controls=(pixels(0), pixels(1)),
        image_prompts=(pixels(3),),
        source=source,
    )


@pytest.mark.parametrize("mask", [None, np.eye(8, dtype=np.bool_)])
@pytest.mark.parametrize("starts", [False, True])
def test_an_order_comes_back_with_its_pictures(live: LiveModel, starts: bool, mask: Any) -> None:
    order = held(live, Source(pixels(2), mask) if starts else None)
    found = read(written(order), written_pictures(order))
    for field in fields(Order):
        if field.name not in ("source", "controls", "image_prompts"):
            assert getattr(found, field.name) == getattr(order, field.name), field.name
    lists = ((found.controls, order.controls), (found.image_prompts, order.image_prompts))
    for ours, theirs in (pair for both in lists for pair in zip(*both, strict=True)):
        np.testing.assert_array_equal(ours, theirs)
    assert (found.source is None) == (not starts)
    if found.source is not None:
        np.testing.assert_array_equal(found.source.pixels, pixels(2))
        np.testing.assert_array_equal(found.source.mask, mask)


def test_an_order_without_pictures_has_no_file(live: LiveModel) -> None:
    assert written_pictures(Order(image_request(), live.pins, Encoding())) is None


def test_nothing_is_left_of_the_pictures_of_a_job_that_has_ended(live: LiveModel) -> None:
    order = held(live, Source(pixels(2)))
    left = without_texts(order)
    assert (left.controls, left.image_prompts, left.source, left.request.prompt) == ((), (), None, "")
    assert (left.beside, left.request.controls) == (order.beside, order.request.controls)
    assert written_pictures(left) is None


def test_an_order_of_before_there_were_controls_is_read(live: LiveModel) -> None:
    text = written(Order(image_request(), live.pins, Encoding()))
    for name in ('"beside":[],', ',"beside":[]', '"controls":[],'):
        text = text.replace(name, "")
    assert "controls" not in text
    assert "beside" not in text
    assert read(text).request == image_request()
