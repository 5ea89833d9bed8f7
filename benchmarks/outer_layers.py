"""The outer layers of SD 1.5's U-Net, with random weights: a network that takes less time than the whole one.

There is no checkpoint of that size in this repository, and to export one of random weights takes minutes and 12.5 GB.
What surrounds a run does not depend on what the graph computes, only on the shapes of its inputs and outputs; so the
work outside `session.run` over the run of a part of the network is the most that it can be over the run of the whole.
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from components.contract import Conditioning, Contract, Kind, LatentSpace, NoiseSchedule, TensorSpec
from components.folder import ComponentFolder, record_files, write_manifest
from components.manifest import Manifest, Origin, Parity

CHANNELS, DOWNSCALE, WIDTH, TOKENS = 4, 8, 768, 77
HIDDEN, TIME, RESNETS = 320, 1280, 2
_SIDE = 64
_MODEL = "model.onnx"


def write_outer_layers(path: Path) -> ComponentFolder:
    """Write a denoiser into an empty folder: SD 1.5's inputs and outputs, and its layers at the latents' own size.

    These are the time embedding, the first convolution, the two residual blocks on the way down, two of the three on
    the way up, all at 320 channels without their norms, the keys of their cross-attentions, which are averaged and
    added where the real ones attend to them, and the last convolution.
    """
    (path / _MODEL).write_bytes(_Graph().model().SerializeToString())
    manifest = Manifest(
        contract=_contract(),
        graphs={"main": _MODEL},
        weights="float32",
        files=record_files(path),
        parity=Parity(max_absolute_error=0.0, shapes={}),
        origin=Origin(source="random weights, for the benchmarks", exporter={"onnx": onnx.__version__}),
    )
    return write_manifest(path, manifest)


def _contract() -> Contract:
    latents = ("batch", CHANNELS, "height", "width")
    return Contract(
        kind=Kind.DENOISER,
        inputs=(
            TensorSpec(name="latents", dtype="float32", shape=latents),
            TensorSpec(name="timestep", dtype="float32", shape=("batch",)),
            TensorSpec(name="hidden_states", dtype="float32", shape=("batch", "tokens", WIDTH)),
        ),
        outputs=(TensorSpec(name="prediction", dtype="float32", shape=latents),),
        latent_space=LatentSpace(id="sd15", channels=CHANNELS, downscale=DOWNSCALE, scaling_factor=0.18215),
        conditioning=(Conditioning(name="hidden_states", width=WIDTH, tokens=TOKENS),),
        noise_schedule=NoiseSchedule(
            prediction_type="epsilon",
            num_train_timesteps=1000,
            beta_schedule="scaled_linear",
            beta_start=0.00085,
            beta_end=0.012,
            steps_offset=1,
            set_alpha_to_one=False,
        ),
        latent_size=(_SIDE, _SIDE),
        latent_multiple=8,
        guidance=7.5,
    )


class _Graph:
    """Builds the graph, node by node; each method returns the name of what it made."""

    def __init__(self) -> None:
        self._rng = np.random.default_rng(0)
        self._nodes: list[onnx.NodeProto] = []
        self._arrays: list[onnx.TensorProto] = []

    def model(self) -> onnx.ModelProto:
        time = self._time()
        hidden = self._conv("latents", CHANNELS, HIDDEN)
        skips = []
        for _ in range(RESNETS):
            skips.append(hidden)
            hidden = self._attended(self._resnet(hidden, HIDDEN, time))
        while skips:
            joined = self._node("Concat", hidden, skips.pop(), axis=1)
            hidden = self._attended(self._resnet(joined, 2 * HIDDEN, time))
        self._node("Identity", self._conv(self._silu(hidden), HIDDEN, CHANNELS), output="prediction")
        latents: list[int | None] = [None, CHANNELS, None, None]
        inputs: dict[str, list[int | None]] = {
            "latents": latents,
            "timestep": [None],
            "hidden_states": [None, None, WIDTH],
        }
        graph = helper.make_graph(
            self._nodes,
            "outer_layers",
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
            [helper.make_tensor_value_info("prediction", TensorProto.FLOAT, latents)],
            self._arrays,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)

    def _time(self) -> str:
        column = self._node("Reshape", "timestep", self._shape(-1, 1))
        waves = self._node("Sin", self._matmul(column, 1, HIDDEN))
        return self._silu(self._matmul(self._silu(self._matmul(waves, HIDDEN, TIME)), TIME, TIME))

    def _resnet(self, hidden: str, channels: int, time: str) -> str:
        moment = self._node("Reshape", self._matmul(time, TIME, HIDDEN), self._shape(-1, HIDDEN, 1, 1))
        first = self._node("Add", self._conv(self._silu(hidden), channels, HIDDEN), moment)
        shortcut = hidden if channels == HIDDEN else self._conv(hidden, channels, HIDDEN, side=1)
        return self._node("Add", shortcut, self._conv(self._silu(first), HIDDEN, HIDDEN))

    def _attended(self, hidden: str) -> str:
        keys = self._node("ReduceMean", self._matmul("hidden_states", WIDTH, HIDDEN), self._shape(1), keepdims=0)
        return self._node("Add", hidden, self._node("Reshape", keys, self._shape(-1, HIDDEN, 1, 1)))

    def _silu(self, name: str) -> str:
        return self._node("Mul", name, self._node("Sigmoid", name))

    def _conv(self, name: str, channels: int, filters: int, side: int = 3) -> str:
        weight = self._weight(filters, channels, side, side, fan_in=side * side * channels)
        return self._node("Conv", name, weight, pads=[side // 2] * 4)

    def _matmul(self, name: str, width: int, wide: int) -> str:
        return self._node("MatMul", name, self._weight(width, wide, fan_in=width))

    def _node(self, kind: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        name = f"made_{len(self._nodes)}" if output is None else output
        self._nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def _weight(self, *shape: int, fan_in: int) -> str:
        # of this size numbers neither grow nor fade from layer to layer
        return self._constant(self._rng.standard_normal(shape, np.float32) / np.float32(np.sqrt(fan_in)))

    def _shape(self, *sizes: int) -> str:
        return self._constant(np.array(sizes, np.int64))

    def _constant(self, array: npt.NDArray[Any]) -> str:
        name = f"constant_{len(self._arrays)}"
        self._arrays.append(numpy_helper.from_array(array, name))
        return name
