"""The toy bundle with a third text encoder, and a denoiser that takes what it says."""

from pathlib import Path

import numpy as np
import onnx
from onnx import helper

from components.contract import PARTS, Conditioning, Contract, Kind, TensorSpec
from tests.bad_components import add_golden_cases
from tests.services.conftest import CONTRACTS, NODES, TOKENS, WIDTH, write_component

_PLAIN = CONTRACTS[Kind.DENOISER]
_SHAPE = ("batch", TOKENS, WIDTH)
THIRD = Contract(
    kind=Kind.THIRD_TEXT_ENCODER,
    inputs=(TensorSpec(name="input_ids", dtype="int64", shape=("batch", TOKENS)),),
    outputs=(TensorSpec(name="third_hidden_states", dtype="float32", shape=_SHAPE),),
    conditioning=(Conditioning(name="third_hidden_states", width=WIDTH, tokens=TOKENS),),
)
TAKING = _PLAIN.model_copy(
    update={
        "inputs": (
            *_PLAIN.inputs,
            TensorSpec(name="third_hidden_states", dtype="float32", shape=_SHAPE, optional=True),
        )
    }
)


def write_with_third(path: Path) -> Path:
    """A bundle folder with golden cases."""
    for kind in PARTS:
        if kind != Kind.DENOISER:
            write_component(path / kind, kind)
    zeros = {"third_hidden_states": np.zeros((1, TOKENS, WIDTH), np.float32)}
    write_component(path / Kind.DENOISER, Kind.DENOISER, TAKING, _denoiser_nodes(), zeros)
    # turned round, so that it is another than the first
    nodes = [
        helper.make_node("Gather", ["embedding", "input_ids"], ["looked_up"]),
        helper.make_node("Neg", ["looked_up"], ["third_hidden_states"]),
    ]
    write_component(path / Kind.THIRD_TEXT_ENCODER, Kind.THIRD_TEXT_ENCODER, THIRD, nodes)
    for kind in (*PARTS, Kind.THIRD_TEXT_ENCODER):
        add_golden_cases(path / kind)
    return path


def _denoiser_nodes() -> list[onnx.NodeProto]:
    mean, *others = NODES[Kind.DENOISER]
    assert list(mean.output) == ["text_mean"]
    return [
        helper.make_node("ReduceMean", ["hidden_states"], ["first_mean"], axes=[1], keepdims=0),
        helper.make_node("ReduceMax", ["third_hidden_states"], ["third_max"], axes=[1], keepdims=0),
        helper.make_node("Add", ["first_mean", "third_max"], ["text_mean"]),
        *others,
    ]
