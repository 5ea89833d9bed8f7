import json
import os
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
        "a/",
        "a\nb",
        "\x1b[2Ja",
        "a" * 256,
        "ä" * 128,
        "\ud800",
    ],
)
def test_a_path_that_leaves_the_folder_is_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        _path.validate_python(text)


def test_it_survives_json(manifest_of: Manifest) -> None:
    assert Manifest.model_validate_json(manifest_of.model_dump_json(), strict=True) == manifest_of


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


@given(st.text(alphabet="./\\\0a~%: \n", max_size=12) | st.text(max_size=300))
def test_an_accepted_path_names_a_file_below_its_folder(text: str) -> None:
    """The judge is the operating system's own way to read a path."""
    try:
        accepted = _path.validate_python(text)
    except ValidationError:
        return
    below = os.path.normpath(f"/folder/{accepted}")
    assert below.startswith("/folder/")
    assert os.path.relpath(below, "/folder") == accepted


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"max_absolute_error":0.0', '"max_absolute_error":NaN'),
        ('"max_absolute_error":0.0', '"max_absolute_error":Infinity'),
        ('"max_absolute_error":0.0', '"max_absolute_error":1e999'),
        ('"max_absolute_error":0.0', '"max_absolute_error":"0.0"'),
        ('"max_absolute_error":0.0', '"max_absolute_error":-1'),
        ('"channels":4', '"channels":"4"'),
        ('"channels":4', '"channels":4.0'),
        ('"channels":4', '"channels":true'),
        ('"size":0', '"size":-1'),
        ('"size":0', '"size":null'),
        ('"0000', '"ABCD'),
        ('"0000', '"000'),
        ('"model.onnx":{', '"other.onnx":{'),
    ],
)
def test_json_from_outside_is_read_strictly(manifest_of: Manifest, old: str, new: str) -> None:
    text = manifest_of.model_dump_json()
    assert old in text
    with pytest.raises(ValidationError):
        Manifest.model_validate_json(text.replace(old, new, 1), strict=True)


def test_a_size_beyond_any_disk_is_a_number_like_another(manifest_of: Manifest) -> None:
    """It costs nothing here; opening the folder and the download compare it with what is there."""
    text = manifest_of.model_dump_json().replace('"size":0', f'"size":{10**30}')
    assert Manifest.model_validate_json(text, strict=True).files["model.onnx"].size == 10**30


def test_a_golden_case_must_be_listed(manifest_of: Manifest) -> None:
    data = json.loads(manifest_of.model_dump_json()) | {"golden": [{"file": "golden/0.npz", "tolerance": 1e-4}]}
    with pytest.raises(ValidationError, match=r"files: golden/0.npz is named but not listed"):
        Manifest.model_validate(data)
