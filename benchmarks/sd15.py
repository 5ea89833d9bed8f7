"""SD 1.5's denoiser as a component without a checkpoint: its contract, its sizes, and how it is written.

There is no checkpoint of that size in this repository, and to export one of random weights takes minutes and 12.5 GB.
"""

from pathlib import Path

import onnx

from benchmarks.graph_builder import GraphBuilder, Shape
from components.contract import Conditioning, Contract, Kind, LatentSpace, NoiseSchedule, TensorSpec
from components.folder import ComponentFolder, record_files, write_manifest
from components.manifest import Manifest, Origin, Parity

CHANNELS, DOWNSCALE, WIDTH, TOKENS = 4, 8, 768, 77
MODEL, DATA = "model.onnx", "model.onnx.data"
_SIDE = 64


def write_component(path: Path, graph: GraphBuilder, name: str) -> ComponentFolder:
    """Write the component of a graph that takes and gives what SD 1.5's U-Net does; its data lies in `path` already."""
    latents: Shape = (None, CHANNELS, None, None)
    inputs = {"latents": latents, "timestep": (None,), "hidden_states": (None, None, WIDTH)}
    (path / MODEL).write_bytes(graph.model(name, inputs, {"prediction": latents}).SerializeToString())
    manifest = Manifest(
        contract=contract(),
        graphs={"main": MODEL},
        weights="float32",
        files=record_files(path),
        parity=Parity(max_absolute_error=0.0, shapes={}),
        origin=Origin(source="random weights, for the benchmarks", exporter={"onnx": onnx.__version__}),
    )
    return write_manifest(path, manifest)


def contract() -> Contract:
    """The contract of SD 1.5's U-Net."""
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
