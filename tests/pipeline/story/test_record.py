"""The record: it follows the request's fields, and reads what other versions of it wrote."""

import hashlib
import json
import struct
from dataclasses import FrozenInstanceError, fields, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.contract import Kind
from components.messages import ImageRequest, Overlay, Source
from pipeline.story.file_form import FileForm
from pipeline.story.origin import Origin
from pipeline.story.record import DEFAULTS, FORMAT, SETTINGS, Story, read_json
from tests.pipeline.story.stories import HARD, PINS, prompts, story

TOLD = story(prompt=HARD[0], negative_prompt=HARD[1], subseed=2**63 - 1, subseed_strength=0.1, adaptive_guidance=0.99)
# as services/encoding.py wrote it when there was no number, no text and no model
OLD = {
    "prompt_chunks": 1,
    "rng": "philox",
    "seed": 3,
    "subseed": None,
    "subseed_strength": 0.0,
    "steps": 5,
    "guidance": 2.0,
    "sampler": "ddim",
    "schedule": "default",
    "eta": 0.0,
    "width": 32,
    "height": 16,
    "components": {"denoiser": {"name": "toy.denoiser", "version": 1, "sha256": "0" * 64}},
    "fallback_for": None,
}


def read(said: dict[str, Any]) -> tuple[Story, tuple[str, ...]]:
    told = read_json(json.dumps(said))
    assert told is not None
    return told


def test_every_field_of_a_request_is_told() -> None:
    said = json.loads(TOLD.to_json())
    named = {field.name for field in fields(ImageRequest)} - {"n"}
    assert named <= said.keys()
    assert not named & {"format", "model", "components", "fallback_for"}, "two things of one name"
    assert (said["prompt"], said["negative_prompt"], said["subseed"]) == (*HARD, 2**63 - 1)
    assert said["components"] == {kind.value: pin.model_dump() for kind, pin in PINS.items()}
    assert (said["model"], said["format"]) == ("toy", FORMAT)


def test_what_a_picture_was_made_from_and_how_it_was_written_is_told() -> None:
    pixels, mask = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(1, 5, 7, 3), np.eye(5, 7, dtype=np.bool_)
    form = FileForm(output_format="webp", output_compression=3)
    whole = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    depth = np.linspace(-1, 1, 6, dtype=np.float32).reshape(1, 1, 2, 3)
    overlay = Overlay(whole, np.zeros((2, 3), np.uint8), (0, 0, 2, 2))
    source = Source(pixels, mask, depth=depth, overlay=overlay)
    told = replace(TOLD, origin=Origin.of(source)).written_as(form)
    assert read_json(told.to_json()) == (told, ())
    said = json.loads(told.to_json())
    digest = hashlib.sha256(bytes(range(105))).hexdigest()
    assert said["source"] == {"sha256": digest, "width": 7, "height": 5}
    digest = hashlib.sha256(bytes(int(x == y) for y in range(5) for x in range(7))).hexdigest()
    assert said["mask"] == {"sha256": digest, "width": 7, "height": 5}
    digest = hashlib.sha256(struct.pack("<6f", *depth.ravel())).hexdigest()
    assert said["depth"] == {"sha256": digest, "width": 3, "height": 2}
    assert said["laid_into"] == {"sha256": hashlib.sha256(bytes(range(18))).hexdigest(), "width": 3, "height": 2}
    assert said["file"] == {"output_format": "webp", "output_compression": 3}
    said = json.loads(TOLD.to_json())
    assert (said["source"], said["mask"], said["depth"], said["file"]) == (None,) * 4


def test_a_story_is_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        TOLD.model = "other"  # type: ignore[misc]
    with pytest.raises(TypeError):
        TOLD.settings["seed"] = 1  # type: ignore[index]
    with pytest.raises(TypeError):
        TOLD.components[Kind.DENOISER] = PINS[Kind.VAE_DECODER]  # type: ignore[index]


@given(prompts, prompts, st.integers(0, 2**63 - 1), st.floats(0, 50))
def test_json_gives_the_story_again(prompt: str, negative: str, seed: int, guidance: float) -> None:
    told = story(PINS[Kind.VAE_DECODER], prompt=prompt, negative_prompt=negative, seed=seed, guidance=guidance)
    assert told.to_json().isascii()
    assert read_json(told.to_json()) == (told, ())


def test_an_old_picture_is_readable() -> None:
    told, unknown = read(OLD)
    assert unknown == ()
    assert (told.format, told.model, told.settings["prompt"], told.settings["guidance_end"]) == (1, None, None, None)
    assert (told.settings["seed"], told.settings["rng"], told.settings["width"]) == (3, "philox", 32)
    assert str(told.components[Kind.DENOISER]) == "toy.denoiser/1"


def test_a_newer_picture_is_read_as_far_as_it_is_known() -> None:
    newer = json.loads(TOLD.to_json())
    newer |= {"format": 99, "tiles": [1, 2], "steps": "many"}
    newer["components"]["upscaler"] = {"name": "toy.upscaler", "version": 1, "sha256": "0" * 64}
    told, unknown = read(newer)
    assert set(unknown) == {"tiles", "steps", "components.upscaler"}
    assert told.settings == {**TOLD.settings, "steps": None}
    assert (told.format, told.components) == (99, TOLD.components)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("seed", True),
        ("seed", 2**64),
        ("seed", 1.5),
        ("guidance", "7"),
        ("guidance", [7]),
        ("prompt", 7),
        ("prompt", "\ud800"),
        ("sampler", {}),
        ("format", 0),
        ("format", "2"),
        ("model", []),
        ("source", {"sha256": "0" * 64}),
        ("source", {"sha256": "0" * 63, "width": 1, "height": 1}),
        ("mask", {"sha256": "0" * 64, "width": 0, "height": 1}),
        ("file", {"output_format": "png", "output_compression": 101}),
        ("file", {"output_format": "png", "output_compression": True}),
        ("file", "png"),
        ("fallback_for", {"name": "toy.vae_decoder"}),
        ("fallback_for", {"name": "no component", "version": 1, "sha256": "0" * 64}),
        ("fallback_for", {"name": "toy.denoiser", "version": 1, "sha256": "0" * 64}),
    ],
)
def test_what_is_wrong_is_listed_and_the_rest_read(name: str, value: Any) -> None:
    told, unknown = read({**json.loads(TOLD.to_json()), name: value})
    assert unknown == (name,)
    assert told.settings["steps"] == TOLD.settings["steps"]
    assert told.settings.get(name) is None


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "{}", "7", '{"components": 3}', "[" * 100_000, '{"a":' * 100_000),
        *('{"components": {}, "a": NaN}', '{"components": {}, "seed": 1e999}'),
        '{"components": {}, "seed": ' + "9" * 10_000 + "}",
    ],
)
def test_what_is_none_of_ours_is_none(text: str) -> None:
    assert read_json(text) is None


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=5))
def test_no_value_of_any_member_fails(value: Any) -> None:
    for name in (*SETTINGS, "format", "model", "fallback_for", "source", "mask", "depth", "file", "other"):
        read_json(json.dumps({"components": {"denoiser": value}, name: value}))


@given(prompts, prompts | st.just(""))
def test_texts_may_be_left_to_the_infotext(prompt: str, negative: str) -> None:
    told = story(prompt=prompt, negative_prompt=negative)
    short = told.to_json(texts=False)
    assert json.loads(short)["prompt"] is None
    infotext = prompt + (f"\nNegative prompt: {negative}" if negative else "") + "\nSteps: 3"
    assert read_json(short, infotext) == (told, ())
    for changed in (None, "", prompt[1:]):
        found = read_json(short, changed)
        assert found is not None
        assert found.story == told.without_texts() or changed


def test_defaults_are_those_of_a_request() -> None:
    assert DEFAULTS["guidance_end"] == 1.0
    assert "seed" not in DEFAULTS
