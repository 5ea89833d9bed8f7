from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from components.contract import Contract, Kind, LatentSpace, TensorSpec
from components.folder import ComponentFolder, record_files, write_manifest
from components.manifest import GoldenCase, Manifest, Origin, Parity

SPACE = LatentSpace(id="test", channels=4, downscale=1, scaling_factor=1.0)
SPEC_IN = TensorSpec(name="latents", dtype="float32", shape=("batch", 4, "height", "width"))
SPEC_OUT = TensorSpec(name="pixels", dtype="float32", shape=("batch", 3, "height", "width"))
CONTRACT = Contract(kind=Kind.VAE_DECODER, inputs=(SPEC_IN,), outputs=(SPEC_OUT,), latent_space=SPACE)
MakeFolder = Callable[..., ComponentFolder]


def model(
    *,
    given: str = "latents",
    made: str = "pixels",
    dtype: int = TensorProto.FLOAT,
    channels: int = 4,
    out_channels: int = 3,
    stride: int = 1,
    height: int | str = "height",
) -> bytes:
    """A 1x1 convolution whose every output channel is the mean of the input channels, of every `stride`th pixel."""
    weight = np.full((out_channels, channels, 1, 1), 1 / channels, helper.tensor_dtype_to_np_dtype(dtype))
    sides = [height, "width"] if stride == 1 else ["rows", "columns"]
    graph = helper.make_graph(
        [helper.make_node("Conv", [given, "weight"], [made], strides=[stride, stride])],
        "mean",
        [helper.make_tensor_value_info(given, dtype, ["batch", channels, height, "width"])],
        [helper.make_tensor_value_info(made, dtype, ["batch", out_channels, *sides])],
        [onnx.numpy_helper.from_array(weight, "weight")],
    )
    made_model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    content = made_model.SerializeToString()
    assert isinstance(content, bytes)
    return content


@pytest.fixture
def make_folder(tmp_path: Path) -> MakeFolder:
    def make(
        content: bytes | None = None, golden_offset: float = 0.0, contract: Contract = CONTRACT
    ) -> ComponentFolder:
        path = tmp_path / contract.kind
        path.mkdir()
        (path / "model.onnx").write_bytes(model() if content is None else content)
        latents = np.random.default_rng(0).standard_normal((2, 4, 5, 6), np.float32)
        expected = latents.mean(axis=1, keepdims=True).repeat(3, axis=1) + golden_offset
        np.savez(path / "0.npz", **{"input.latents": latents, "output.pixels": expected})
        manifest = Manifest(
            contract=contract,
            graphs={"main": "model.onnx"},
            weights="float32",
            files=record_files(path),
            golden=(GoldenCase(file="0.npz", tolerance=1e-4),),
            parity=Parity(max_absolute_error=0.0, shapes={}),
            origin=Origin(source="test", exporter={}),
        )
        return write_manifest(path, manifest)

    return make
