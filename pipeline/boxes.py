"""Boxes with phrases: a request's own, and what they put into the rows of a denoiser."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from components.contract import BOX_INPUTS, Contract
from components.messages import Arrays, FloatArray, PhraseBox
from diffusion.guidance import Row
from pipeline.checks import check_text
from pipeline.errors import RequestError, refuse

_SIDES = "x0, y0, x1, y1: four numbers from 0 to 1 with x0 < x1 and y0 < y1"


def check_boxes(given: Any, most: int, most_characters: int) -> tuple[PhraseBox, ...]:
    """A request's `boxes`, each a mapping with a `phrase` of so many characters at most and its `box`.

    Raises:
        RequestError: there are more than `most`, or one is no box, or a phrase no text or empty; no phrase is quoted.
    """
    if not isinstance(given, Sequence) or isinstance(given, str):
        raise RequestError("boxes", f"boxes: is {type(given).__name__}, must be a list of objects with phrase and box")
    if given and not most:
        raise RequestError("boxes", "boxes: must be left out, as none are taken here")
    if len(given) > most:
        raise refuse("boxes", f"{len(given)} boxes", f"at most {most}")
    return tuple(_box(f"boxes[{number}]", one, most_characters) for number, one in enumerate(given))


def box_rows(boxes: Sequence[PhraseBox], phrases: FloatArray, denoiser: Contract) -> Mapping[Row, Arrays]:
    """What each row takes of boxes and the vectors [boxes, width] of their phrases.

    A row without the prompt looks too, and sees that no box is there, as in diffusers.
    """
    count, most = len(boxes), denoiser.most_boxes
    sides = np.zeros((1, most, 4), np.float32)
    sides[0, :count] = [one.box for one in boxes]
    texts = np.zeros((1, most, phrases.shape[1]), np.float32)
    texts[0, :count] = phrases
    there = np.zeros((1, most), np.float32)
    there[0, :count] = 1

    def row(*arrays: FloatArray) -> Arrays:
        return dict(zip(BOX_INPUTS, (*arrays, np.ones(1, np.float32)), strict=True))

    without = row(*map(np.zeros_like, (sides, texts, there)))
    return {**dict.fromkeys(Row, without), Row.POSITIVE: row(sides, texts, there)}


def _box(field: str, given: Any, most_characters: int) -> PhraseBox:
    if not isinstance(given, Mapping) or set(given) != {"phrase", "box"}:
        raise RequestError(field, f"{field}: must be an object with phrase and box")
    check_text(f"{field}.phrase", given["phrase"], 1, most_characters)
    if not given["phrase"].strip():
        raise RequestError(f"{field}.phrase", f"{field}.phrase: is blank, must say what is in the box")
    box = given["box"]
    sides = list(box) if isinstance(box, Sequence) and not isinstance(box, str) else []
    if len(sides) != 4 or not all(map(_is_share, sides)) or not (sides[0] < sides[2] and sides[1] < sides[3]):
        raise refuse(f"{field}.box", box, _SIDES)
    x0, y0, x1, y1 = map(float, sides)
    return PhraseBox(given["phrase"], (x0, y0, x1, y1))


def _is_share(value: Any) -> bool:
    # bool is an int to Python; NaN lies between no two numbers
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1
