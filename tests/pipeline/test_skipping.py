"""What a request may say of layers to skip."""

from typing import Any

import numpy as np
import pytest

from components.contract import Contract, Kind, TensorSpec
from diffusion.guidance import Row
from pipeline.errors import RequestError
from pipeline.request import RequestFields, RequestRules, check_request
from pipeline.skipping import skipped
from tests.pipeline.conftest import CONTRACTS

RULES = RequestRules(max_guidance=20)


def skippable(layers: int) -> Contract:
    contract = CONTRACTS[Kind.DENOISER]
    more = TensorSpec(name="skip_layers", dtype="float32", shape=("batch", layers), optional=True)
    return contract.model_copy(update={"inputs": (*contract.inputs, more)})


def checked(layers: int, **fields: Any) -> Any:
    return check_request(RequestFields(prompt="-", **fields), skippable(layers), RULES)


def test_nothing_is_skipped_unless_asked_for() -> None:
    assert checked(24).skip_layers == ()
    assert checked(24).skip_layer_guidance is None


@pytest.mark.parametrize("asked", [{"skip_layer_guidance": 2.8}, {"skip_layers": [9, 7, 8]}])
def test_layers_and_scale_are_those_of_diffusers(asked: dict[str, Any]) -> None:
    request = checked(24, **asked)
    assert request.skip_layers == (7, 8, 9)
    assert request.skip_layer_guidance == 2.8
    assert (request.skip_layer_guidance_start, request.skip_layer_guidance_end) == (0.01, 0.2)


def test_only_a_row_that_skips_says_so() -> None:
    request = checked(4, skip_layers=[2, 0])
    [weights] = skipped(Row.SKIPPING, request, skippable(4)).values()
    np.testing.assert_array_equal(weights, [[1, 0, 1, 0]])
    assert weights.dtype == np.float32
    assert skipped(Row.POSITIVE, request, skippable(4)) == {}


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"skip_layer_guidance": 1}, "skip_layers: is required, as this model has 4 layers"),
        ({"skip_layers": []}, r"skip_layers=\[\]: must be a list of layers, one at least"),
        ({"skip_layers": "1"}, "skip_layers='1': must be a list of layers"),
        ({"skip_layers": [4]}, "skip_layers=4: must be a whole number between 0 and 3"),
        ({"skip_layers": [-1]}, "skip_layers=-1: must be"),
        ({"skip_layers": [1.5]}, "skip_layers=1.5: must be"),
        ({"skip_layers": [True]}, "skip_layers=True: must be"),
        ({"skip_layers": [1, 1]}, r"skip_layers=\[1, 1\]: must be each layer once"),
        ({"skip_layers": [0] * 5}, "skip_layers='5 layers': must be at most 4"),
        ({"skip_layers": [1], "skip_layer_guidance": 21}, "skip_layer_guidance=21: must be a number between 0 and 20"),
        ({"skip_layers": [1], "skip_layer_guidance": float("nan")}, "skip_layer_guidance=nan"),
        ({"skip_layers": [1], "skip_layer_guidance_start": 2}, "skip_layer_guidance_start=2: must be"),
        ({"skip_layers": [1], "skip_layer_guidance_start": 0.2}, "skip_layer_guidance_start=0.2: must be less than"),
        ({"skip_layers": [1], "skip_layer_guidance_end": 0.01}, "skip_layer_guidance_end=0.01: must be more than"),
        ({"skip_layer_guidance_end": 0.5}, "skip_layer_guidance_end=0.5: must be left out without skip_layers"),
    ],
)
def test_what_cannot_be_skipped_is_refused(asked: dict[str, Any], words: str) -> None:
    with pytest.raises(RequestError, match=words):
        checked(4, **asked)


def test_a_model_that_can_skip_nothing_says_so() -> None:
    with pytest.raises(
        RequestError, match="skip_layers=.*: must be left out, as this model can skip none of its layers"
    ):
        check_request(RequestFields(prompt="-", skip_layers=[1]), CONTRACTS[Kind.DENOISER], RULES)
