"""Inputs that may be left out: what torch computes with them, what it computes without, and rows of either kind."""

from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import Tensor, nn

from compiler.build import build
from components.contract import Contract, Kind, LatentSpace, TensorSpec
from components.folder import ComponentFolder
from components.manifest import Origin
from exporters.component import write_component
from exporters.network import Network, trials
from exporters.storage import round_weights
from runtime.session import Session
from runtime.settings import SessionSettings

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
CPU = SessionSettings(provider="cpu", threads=1)
CHANNELS = 4


class _Adapted(nn.Module):
    """Latents to pixels, with an adapter for each row and a residual: what zeros leave alone."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(CHANNELS, 3, 1)
        self.map = nn.Linear(CHANNELS, CHANNELS)

    def forward(self, latents: Tensor, down: Tensor, up: Tensor, residual: Tensor) -> tuple[Tensor]:
        batch, channels, height, width = latents.shape
        tokens = latents.permute(0, 2, 3, 1).reshape(batch, height * width, channels)
        mapped = self.map(tokens) + (tokens @ down.transpose(1, 2)) @ up.transpose(1, 2)
        grid = mapped.reshape(batch, height, width, channels).permute(0, 3, 1, 2)
        return (self.conv(grid + residual),)


@pytest.fixture(scope="module")
def network() -> Network:
    torch.manual_seed(0)

    def optional(name: str, *shape: int | str) -> TensorSpec:
        return TensorSpec(name=name, dtype="float32", shape=shape, optional=True)

    contract = Contract(
        kind=Kind.VAE_DECODER,
        inputs=(
            TensorSpec(name="latents", dtype="float32", shape=("batch", CHANNELS, "height", "width")),
            optional("down", "batch", "rank", CHANNELS),
            optional("up", "batch", CHANNELS, "rank"),
            optional("residual", "batch", CHANNELS, "height", "width"),
        ),
        outputs=(TensorSpec(name="pixels", dtype="float32", shape=("batch", 3, "height", "width")),),
        latent_space=LatentSpace(id="test", channels=CHANNELS, downscale=1, scaling_factor=1.0),
    )
    sizes = {"height": 4, "width": 4, "rank": 2}
    module = _Adapted().requires_grad_(False)
    round_weights(module, "float16")
    return Network(module, contract, trials(sizes, sizes))


@pytest.fixture(scope="module")
def folder(network: Network, tmp_path_factory: pytest.TempPathFactory) -> ComponentFolder:
    origin = Origin(source="a test", exporter={})
    round_weights(network.module, "float16")
    # an export lets go of its module's weights
    exported = replace(network, module=deepcopy(network.module))
    return write_component(exported, tmp_path_factory.mktemp("optional") / "component", "float16", origin)


@pytest.mark.parametrize("left_out", [(), ("down", "up"), ("residual",), ("down", "up", "residual")])
def test_what_is_left_out_counts_as_zeros(network: Network, folder: ComponentFolder, left_out: tuple[str]) -> None:
    inputs = network.arrays({"batch": 3, "height": 6, "width": 2, "rank": 5}, seed=7)
    for name in left_out:
        inputs[name].zero_()
    feeds = {name: array.numpy() for name, array in inputs.items() if name not in left_out}
    pixels = Session.open(folder, CPU).run(feeds)["pixels"]
    np.testing.assert_allclose(pixels, network.outputs(inputs)["pixels"].numpy(), atol=1e-5)


def test_the_defaults_are_inputs_that_a_run_may_override(folder: ComponentFolder) -> None:
    graph = ir.load(folder.graph()).graph
    assert {value.name for value in graph.inputs} == {"latents", "down", "up", "residual"}
    assert {"down", "up", "residual"} <= set(graph.initializers)
    assert list(graph.initializers["down"].shape or ()) == [
        ir.SymbolicDim("down.batch"),
        ir.SymbolicDim("down.rank"),
        4,
    ]


def test_a_compiled_copy_gives_the_same_bytes(folder: ComponentFolder, tmp_path: Path) -> None:
    build(folder, CPU, tmp_path)
