import json
from pathlib import PurePosixPath
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from components.manifest import Manifest, RelativePath

_path = TypeAdapter(RelativePath)


@given(st.lists(st.sampled_from(["..", ".", "", "a", "b.onnx", "~", "C:", "\\", "\0", "component.json"]), max_size=5))
def test_an_accepted_path_stays_inside(parts: list[str]) -> None:
    text = "/".join(parts)
    try:
        accepted = _path.validate_python(text)
    except ValidationError:
        return
    path = PurePosixPath(accepted)
    assert not path.is_absolute()
    assert ".." not in path.parts
    assert accepted == str(path) != "component.json"


@pytest.mark.parametrize(
    "text",
    [
        "../x",
        "a/../../x",
        "/etc/passwd",
        "a\\b",
        "a\0b",
        "C:/x",
        "",
        ".",
        "a//b",
        "./a",
        "component.json",
    ],
)
def test_a_path_that_leaves_the_folder_is_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        _path.validate_python(text)


def test_it_survives_json(manifest_of: Manifest) -> None:
    assert Manifest.model_validate_json(manifest_of.model_dump_json()) == manifest_of


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("format", 2),
        ("unknown", 1),
        ("graphs", {}),
        ("files", {}),
        ("weights", "int8"),
        ("parity", {"max_absolute_error": float("nan"), "shapes": {}}),
    ],
)
def test_a_wrong_field_is_refused_by_name(manifest_of: Manifest, field: str, value: Any) -> None:
    data = json.loads(manifest_of.model_dump_json()) | {field: value}
    with pytest.raises(ValidationError, match=field):
        Manifest.model_validate(data)
