"""The toy bundle with a denoiser that takes control pictures, LoRAs and pictures to be like, and all of these."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import helper

from components.contract import PARTS, Contract, Kind, Preprocessing, TensorSpec
from components.lora import down_name, lora_specs, up_name
from tests.services.conftest import (
    CHANNELS,
    CONTRACTS,
    DOWNSCALE,
    HIDDEN,
    NODES,
    SPACE,
    TEXT,
    write_component,
)

_PICTURE = TensorSpec(
    name="control_image", dtype="float32", shape=("batch", 3, f"height*{DOWNSCALE}", f"width*{DOWNSCALE}")
)
_PLAIN = CONTRACTS[Kind.DENOISER]


def _added(name: str, *, optional: bool, channels: int = HIDDEN) -> TensorSpec:
    shape = ("batch", channels, "height", "width")
    return TensorSpec(name=name, dtype="float32", shape=shape, optional=optional)


LAYER = "mix"
CONTROLLED = _PLAIN.model_copy(
    update={
        "inputs": (
            *_PLAIN.inputs,
            *(_added(name, optional=True) for name in ("control_0", "adapter_0")),
            *lora_specs(LAYER, HIDDEN, HIDDEN, batch="batch", rank="rank"),
            TensorSpec(name="image_prompt", dtype="float32", shape=("batch", "image_tokens", HIDDEN), optional=True),
            TensorSpec(name="image_prompt_scale", dtype="float32", shape=("batch",), optional=True),
        )
    }
)
CONTROLNET = Contract(
    kind=Kind.CONTROLNET,
    inputs=(*_PLAIN.inputs, _PICTURE, TensorSpec(name="scale", dtype="float32", shape=("batch",))),
    outputs=(_added("control_0", optional=False),),
    latent_space=SPACE,
    conditioning=TEXT,
)
ADAPTER = Contract(
    kind=Kind.ADAPTER, inputs=(_PICTURE,), outputs=(_added("adapter_0", optional=False),), latent_space=SPACE
)
LORA = Contract(kind=Kind.LORA, inputs=(), outputs=lora_specs(LAYER, HIDDEN, HIDDEN, batch=1, rank=2))
SIDE, IMAGE_TOKENS = 16, 2
_TOKENS = ("batch", IMAGE_TOKENS, HIDDEN)
IMAGE_ENCODER = Contract(
    kind=Kind.IMAGE_ENCODER,
    inputs=(TensorSpec(name="pixels", dtype="float32", shape=("batch", 3, SIDE, SIDE)),),
    outputs=(
        TensorSpec(name="image_prompt", dtype="float32", shape=_TOKENS),
        TensorSpec(name="no_image_prompt", dtype="float32", shape=_TOKENS),
    ),
    preprocessing=Preprocessing(side=SIDE, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.5)),
)
# for another denoiser
FOREIGN_LORA = Contract(kind=Kind.LORA, inputs=(), outputs=lora_specs("other", HIDDEN, HIDDEN, batch=1, rank=2))
# for a denoiser of fewer channels
NARROW = CONTROLNET.model_copy(update={"outputs": (_added("control_0", optional=False, channels=CHANNELS),)})


def write_controlled(path: Path) -> Path:
    """A bundle folder: ControlNets `edges` and `depth`, adapter `lines`, LoRAs `style` and `ink`, an image encoder."""
    for kind in PARTS:
        if kind != Kind.DENOISER:
            write_component(path / kind, kind)
    write_component(path / Kind.DENOISER, Kind.DENOISER, CONTROLLED, _denoiser_nodes(), _zeros())
    for seed, name in enumerate(("edges", "depth")):
        write_controlnet(path / f"controlnet-{name}", seed)
    write_component(path / "adapter-lines", Kind.ADAPTER, ADAPTER, _adapter_nodes(), _weights(7))
    write_component(path / Kind.IMAGE_ENCODER, Kind.IMAGE_ENCODER, IMAGE_ENCODER, _encoder_nodes(), _encoder_weights())
    for seed, name in enumerate(("style", "ink")):
        write_lora(path / f"lora-{name}", seed)
    return path


def write_lora(path: Path, seed: int, contract: Contract = LORA) -> Path:
    """A LoRA of random weights."""
    rng = np.random.default_rng(seed)
    shapes = {spec.name: spec.shape for spec in contract.outputs}
    arrays = {f"{name}_kept": rng.standard_normal(shape, np.float32) for name, shape in shapes.items()}  # type: ignore[arg-type]  # all are numbers
    nodes = [helper.make_node("Identity", [f"{name}_kept"], [name]) for name in shapes]
    write_component(path, Kind.LORA, contract, nodes, arrays)
    return path


def write_controlnet(path: Path, seed: int, contract: Contract = CONTROLNET) -> Path:
    """A ControlNet of random weights."""
    channels = contract.outputs[0].shape[1]
    assert isinstance(channels, int)
    write_component(path, Kind.CONTROLNET, contract, _controlnet_nodes(), _weights(seed, channels))
    return path


def _denoiser_nodes() -> list[Any]:
    *first, middle, last, out = NODES[Kind.DENOISER]
    assert (list(middle.output), list(last.input)) == (["h5"], ["h5"])
    return [
        *first,
        middle,
        helper.make_node("Add", ["h5", "control_0"], ["held"]),
        helper.make_node("Add", ["held", "adapter_0"], ["held_twice"]),
        # what a LoRA adds for each latent pixel
        helper.make_node("Shape", ["held_twice"], ["sizes"]),
        helper.make_node("Reshape", ["held_twice", "flat"], ["each"]),
        helper.make_node("MatMul", [down_name(LAYER), "each"], ["projected"]),
        helper.make_node("MatMul", [up_name(LAYER), "projected"], ["adapted"]),
        helper.make_node("Reshape", ["adapted", "sizes"], ["adapted_grid"]),
        # and what a picture to be like does
        helper.make_node("ReduceSum", ["image_prompt", "tokens_axis"], ["liked"], keepdims=0),
        helper.make_node("Reshape", ["image_prompt_scale", "per_row"], ["liked_scale"]),
        helper.make_node("Mul", ["liked", "liked_scale"], ["liked_scaled"]),
        helper.make_node("Reshape", ["liked_scaled", "grid"], ["liked_grid"]),
        helper.make_node("Sum", ["held_twice", "adapted_grid", "liked_grid"], ["all_of_it"]),
        helper.make_node("Tanh", ["all_of_it"], ["h6"]),
        out,
    ]


def _controlnet_nodes() -> list[Any]:
    strides = [DOWNSCALE, DOWNSCALE]
    return [
        helper.make_node("Conv", ["control_image", "look"], ["seen"], strides=strides),
        helper.make_node("Conv", ["latents", "also"], ["found"], pads=[1, 1, 1, 1]),
        helper.make_node("ReduceMean", ["hidden_states"], ["mean"], axes=[1, 2], keepdims=0),
        helper.make_node("Reshape", ["mean", "row"], ["mean_grid"]),
        helper.make_node("Reshape", ["timestep", "row"], ["time_grid"]),
        helper.make_node("Mul", ["time_grid", "milli"], ["time_scaled"]),
        helper.make_node("Sum", ["seen", "found", "mean_grid", "time_scaled"], ["all"]),
        helper.make_node("Tanh", ["all"], ["bounded"]),
        helper.make_node("Reshape", ["scale", "row"], ["scale_grid"]),
        helper.make_node("Mul", ["bounded", "scale_grid"], ["control_0"]),
    ]


def _adapter_nodes() -> list[Any]:
    return [helper.make_node("Conv", ["control_image", "look"], ["adapter_0"], strides=[DOWNSCALE, DOWNSCALE])]


def _zeros() -> dict[str, npt.NDArray[Any]]:
    """What is added where nothing holds or adapts the denoiser."""
    held = {name: np.zeros((1, HIDDEN, 1, 1), np.float32) for name in ("control_0", "adapter_0")}
    low = {down_name(LAYER): np.zeros((1, 1, HIDDEN), np.float32), up_name(LAYER): np.zeros((1, HIDDEN, 1), np.float32)}
    alike = {"image_prompt": np.zeros((1, 1, HIDDEN), np.float32), "image_prompt_scale": np.zeros(1, np.float32)}
    shapes = {"flat": np.array([0, HIDDEN, -1]), "tokens_axis": np.array([1]), "per_row": np.array([-1, 1])}
    return {**held, **low, **alike, **shapes}


def _encoder_nodes() -> list[Any]:
    return [
        helper.make_node("Reshape", ["pixels", "all_pixels"], ["flat_pixels"]),
        helper.make_node("MatMul", ["flat_pixels", "project"], ["projected"]),
        helper.make_node("Reshape", ["projected", "as_tokens"], ["image_prompt"]),
        helper.make_node("Mul", ["image_prompt", "nothing"], ["none_of_it"]),
        helper.make_node("Add", ["none_of_it", "unlike"], ["no_image_prompt"]),
    ]


def _encoder_weights() -> dict[str, npt.NDArray[Any]]:
    rng = np.random.default_rng(11)
    sizes = (3 * SIDE * SIDE, IMAGE_TOKENS * HIDDEN)
    return {
        "project": rng.standard_normal(sizes, np.float32) / np.float32(20),
        "all_pixels": np.array([-1, sizes[0]]),
        "as_tokens": np.array([-1, IMAGE_TOKENS, HIDDEN]),
        "nothing": np.array(0, np.float32),
        "unlike": np.array(0.25, np.float32),
    }


def _weights(seed: int, channels: int = HIDDEN) -> dict[str, npt.NDArray[np.float32]]:
    rng = np.random.default_rng(seed)
    look = rng.standard_normal((channels, 3, DOWNSCALE, DOWNSCALE), np.float32) / np.float32(10)
    also = rng.standard_normal((channels, CHANNELS, 3, 3), np.float32) / np.float32(10)
    return {"look": look, "also": also}
