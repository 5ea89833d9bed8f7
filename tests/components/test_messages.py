"""What crosses a process: the parts of a request, the pictures of it, and what a walk can be gone on from."""

import pickle
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest

from components.messages import EncodedText, Snapshot, Walk
from tests.requests import image_request

WALK: dict[str, Any] = {
    "steps": 7,
    "strength": 0.75,
    "guidance": 3.0,
    "image_guidance": 1.5,
    "skip_layers": (7, 8),
    "skip_layer_guidance": 2.5,
    "skip_layer_guidance_start": 0.05,
    "skip_layer_guidance_end": 0.25,
    "noise_level": 20,
    "guidance_rescale": 0.5,
    "guidance_start": 0.25,
    "guidance_end": 0.75,
    "adaptive_guidance": 0.99,
    "sampler": "tcd",
    "schedule": "karras",
    "eta": 0.3,
    "rng": "philox",
    "seed": 2**63 - 3,
    "subseed": 9,
    "subseed_strength": 0.5,
    "boxes_end": 0.3,
}


def estimate(value: float) -> Any:
    return np.full((1, 4, 2, 2), value, np.float32)


def test_the_parts_of_a_walk_are_its_fields_and_nothing_of_the_rest() -> None:
    parts = image_request(**WALK).parts()
    assert parts == WALK
    assert parts.keys() == {field.name for field in fields(Walk)}
    assert Walk(**parts).parts() == parts


def test_a_walk_that_says_nothing_of_guidances_parts_is_guided_all_the_way() -> None:
    plain = image_request()
    assert (plain.guidance_rescale, plain.guidance_start, plain.guidance_end) == (0.0, 0.0, 1.0)
    assert (plain.adaptive_guidance, plain.eta) == (None, 0.0)


@pytest.mark.parametrize("image", [0, 1, 2])
def test_picture_k_differs_from_the_request_in_its_seed_alone(image: int) -> None:
    request = image_request(**{**WALK, "subseed": None, "subseed_strength": 0.0, "n": 3})
    assert request.picture(image) == replace(request, seed=request.seed + image, n=1)


def test_pictures_that_vary_one_differ_in_their_subseed_alone() -> None:
    request = image_request(**WALK, n=3)
    assert request.picture(2) == replace(request, subseed=11, n=1)


def test_a_request_crosses_processes() -> None:
    request = image_request(**WALK)
    assert pickle.loads(pickle.dumps(request)) == request
    with pytest.raises(AttributeError):
        request.seed = 1  # type: ignore[misc]  # frozen


def test_reports_of_a_walk_add_up_to_one_snapshot() -> None:
    whole = Snapshot()
    for later in (Snapshot((estimate(1), estimate(2))), Snapshot(), Snapshot((estimate(3),), agreed=True)):
        whole = whole.after(later)
    assert [one[0, 0, 0, 0] for one in whole.estimates] == [1, 2, 3]
    assert whole.agreed
    copy = pickle.loads(pickle.dumps(whole))
    assert copy.agreed
    np.testing.assert_array_equal(copy.estimates, whole.estimates)


def test_a_text_is_a_row_of_every_array() -> None:
    arrays = {"hidden_states": np.arange(12, dtype=np.float32).reshape(2, 3, 2)}
    encoded = EncodedText(arrays, (False, True))
    np.testing.assert_array_equal(encoded.row(1)["hidden_states"], arrays["hidden_states"][1:])
