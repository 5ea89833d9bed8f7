"""Bodies of requests, from JSON and from forms."""

from typing import Any

import pytest

from services.errors import FieldError
from services.ingress.wire.bodies import typed
from services.ingress.wire.requests import EditBody, GenerationBody


def test_layers_to_skip_are_a_list_or_a_forms_text() -> None:
    assert typed(GenerationBody, {"prompt": "-", "skip_layers": [7, 8]}, ()).skip_layers == [7, 8]
    assert typed(GenerationBody, {"prompt": "-"}, ()).skip_layers is None
    assert typed(EditBody, {"prompt": "-", "skip_layers": "7, 8"}, (), texts=True).skip_layers == [7, 8]
    assert typed(EditBody, {"prompt": "-", "skip_layers": ""}, (), texts=True).skip_layers is None


@pytest.mark.parametrize(
    ("given", "texts", "words"),
    [
        ("7,8", False, r"skip_layers\[0\]='7': must be a whole number"),
        ([7.5], False, r"skip_layers\[0\]=7.5: must be a whole number"),
        ({"7": 1}, False, "skip_layers=.*: must be a list"),
        ("7,,8", True, r"skip_layers\[1\]='': must be a whole number"),
    ],
)
def test_layers_to_skip_are_whole_numbers(given: Any, texts: bool, words: str) -> None:
    with pytest.raises(FieldError, match=words):
        typed(EditBody, {"prompt": "-", "skip_layers": given}, (), texts=texts)
