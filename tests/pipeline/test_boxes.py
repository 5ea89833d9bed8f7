"""Boxes with phrases: what of a request is refused, and what they put into a denoiser's rows."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.contract import BOX_INPUTS, Contract, Kind, TensorSpec
from components.folder import ComponentFolder
from components.messages import EncodedText, ImageRequest, PhraseBox
from diffusion.guidance import Row
from pipeline.errors import RequestError
from pipeline.jobs import denoise_jobs
from pipeline.request import RequestFields, RequestRules, check_request
from pipeline.text_encoder import TextEncoder
from runtime.settings import SessionSettings
from tests.pipeline.conftest import CONTRACTS

MOST, WIDTH = 4, 3
SHAPES = ((MOST, 4), (MOST, WIDTH), (MOST,), ())
BOXED = Contract(
    **{
        **dict(CONTRACTS[Kind.DENOISER]),
        "inputs": (
            *CONTRACTS[Kind.DENOISER].inputs,
            *(
                TensorSpec(name=name, dtype="float32", shape=("batch", *shape), optional=True)
                for name, shape in zip(BOX_INPUTS, SHAPES, strict=True)
            ),
        ),
    }
)
BOX: dict[str, Any] = {"phrase": "a fox", "box": [0.125, 0.25, 0.5, 1]}
CANARY = "a word of the caller's own"


def checked(contract: Contract = BOXED, rules: RequestRules | None = None, **fields: Any) -> ImageRequest:
    asked = RequestFields(**{"prompt": "a", "seed": 1, "steps": 2, **fields})
    return check_request(asked, contract, RequestRules() if rules is None else rules)


def test_boxes_are_checked_and_have_diffusers_own_end() -> None:
    request = checked(boxes=[BOX, {"box": (0, 0, 1.0, 1), "phrase": "b"}])
    assert request.boxes == (PhraseBox("a fox", (0.125, 0.25, 0.5, 1.0)), PhraseBox("b", (0.0, 0.0, 1.0, 1.0)))
    assert request.phrases == ("a fox", "b")
    assert request.boxes_end == 0.3
    assert checked(boxes=[BOX], boxes_end=0).boxes_end == 0.0
    nothing: tuple[dict[str, Any], ...] = ({}, {"boxes": []}, {"boxes": ()})
    for without in nothing:
        assert (checked(**without).boxes, checked(**without).boxes_end) == ((), None)


@pytest.mark.parametrize(
    ("fields", "field", "message"),
    [
        ({"boxes": "ab"}, "boxes", "boxes: is str, must be a list of objects with phrase and box"),
        ({"boxes": BOX}, "boxes", "boxes: is dict, must be a list"),
        ({"boxes": [BOX] * 5}, "boxes", "boxes='5 boxes': must be at most 4"),
        ({"boxes": [BOX, "a"]}, "boxes[1]", "boxes[1]: must be an object with phrase and box"),
        ({"boxes": [{"phrase": "a"}]}, "boxes[0]", "boxes[0]: must be an object with phrase and box"),
        ({"boxes": [{**BOX, "weight": 1}]}, "boxes[0]", "must be an object with phrase and box"),
        ({"boxes": [{**BOX, "phrase": ""}]}, "boxes[0].phrase", "has 0 characters, must have 1 to 4000"),
        ({"boxes": [{**BOX, "phrase": " \n"}]}, "boxes[0].phrase", "is blank, must say what is in the box"),
        ({"boxes": [{**BOX, "phrase": CANARY * 500}]}, "boxes[0].phrase", "characters, must have 1 to 4000"),
        ({"boxes": [{**BOX, "phrase": f"{CANARY}\0"}]}, "boxes[0].phrase", "holds a NUL character"),
        ({"boxes": [{**BOX, "phrase": 5}]}, "boxes[0].phrase", "is int, must be text"),
        *(
            ({"boxes": [BOX, {**BOX, "box": box}]}, "boxes[1].box", "must be x0, y0, x1, y1: four numbers from 0 to 1")
            for box in (
                [],
                [0, 0, 1],
                [0, 0, 1, 1, 1],
                "0011",
                None,
                0.5,
                [-0.1, 0, 1, 1],
                [0, 0, 1, 1.01],
                [0, 0, 512, 512],
                [0.5, 0, 0.5, 1],
                [0.6, 0, 0.5, 1],
                [0, 0.9, 1, 0.1],
                [0, math.nan, 1, 1],
                [0, 0, math.inf, 1],
                [False, 0, True, 1],
                ["0", "0", "1", "1"],
            )
        ),
        ({"boxes_end": 0.5}, "boxes_end", "boxes_end=0.5: must be left out without boxes"),
        ({"boxes": [BOX], "boxes_end": 1.5}, "boxes_end", "boxes_end=1.5: must be a number between 0 and 1"),
        ({"boxes": [BOX], "boxes_end": math.nan}, "boxes_end", "must be a number between 0 and 1"),
        ({"boxes": [BOX], "image": (64, 64)}, "boxes", "boxes: must be left out with an image"),
        ({"boxes": [BOX], "image": (64, 64), "mask": True}, "boxes", "boxes: must be left out with an image"),
    ],
)
def test_what_is_no_box_is_refused_by_its_place_and_no_phrase_is_quoted(
    fields: dict[str, Any], field: str, message: str
) -> None:
    with pytest.raises(RequestError) as refused:
        checked(**fields)
    assert refused.value.field == field
    assert message in str(refused.value)
    assert CANARY not in str(refused.value)


def test_a_bundle_and_rules_bound_the_boxes() -> None:
    for contract, rules in ((CONTRACTS[Kind.DENOISER], None), (BOXED, RequestRules(max_boxes=0))):
        with pytest.raises(RequestError, match=r"^boxes: must be left out, as none are taken here$"):
            checked(contract, rules, boxes=[BOX])
    with pytest.raises(RequestError, match=r"^boxes='3 boxes': must be at most 2$"):
        checked(BOXED, RequestRules(max_boxes=2), boxes=[BOX] * 3)


def test_a_row_without_the_prompt_looks_at_boxes_that_are_not_there() -> None:
    request = checked(boxes=[BOX, {**BOX, "box": [0, 0, 1, 0.5]}], guidance=3)
    phrases = np.arange(6, dtype=np.float32).reshape(2, WIDTH) + 1
    encoded = EncodedText({"hidden_states": np.ones((2, 8, 6), np.float32)}, (False, False), phrases=phrases)
    rows = denoise_jobs(request, encoded, BOXED)[0].rows
    positive, negative = rows[Row.POSITIVE], rows[Row.NEGATIVE]
    expected = np.zeros((1, MOST, 4), np.float32)
    expected[0, :2] = [BOX["box"], [0, 0, 1, 0.5]]
    np.testing.assert_array_equal(positive["boxes"], expected)
    np.testing.assert_array_equal(positive["box_texts"], np.concatenate([phrases, phrases * 0])[np.newaxis])
    np.testing.assert_array_equal(positive["box_masks"], [[1, 1, 0, 0]])
    for name in BOX_INPUTS:
        assert negative[name].shape == positive[name].shape
        assert negative[name].dtype == positive[name].dtype == np.float32
        assert negative[name].any() == (name == "boxes_on")
    np.testing.assert_array_equal(positive["boxes_on"], [1])


def test_an_encoder_without_phrases_says_so(bundle: Path) -> None:
    encoder = TextEncoder(ComponentFolder.open(bundle / Kind.TEXT_ENCODER), SessionSettings(threads=1))
    with pytest.raises(RequestError, match=r"^boxes: must be left out, as this text encoder reads no phrases$"):
        encoder.encode(("a",), phrases=("b",))
