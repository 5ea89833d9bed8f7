"""Candidates that must never serve, each made from a sound VAE decoder's folder, and where each is refused.

`BAD` is for every test that a bad candidate disturbs nothing: of the gate, and of a cluster that goes on serving.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple
from urllib.parse import unquote, urlsplit

import numpy as np
import numpy.typing as npt
import onnx
from mlflow import MlflowClient
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import set_external_data

from components.contract import Contract, Kind, TensorSpec
from components.dimensions import size_of
from components.folder import ComponentFolder, read_manifest, record_files, write_manifest
from components.manifest import MANIFEST_NAME, FileRecord, GoldenCase, Manifest
from components.reference import ComponentRef
from registry.settings import RegistrySettings
from registry.store import open_client
from runtime.session import Session
from runtime.settings import SessionSettings

GRAPH, DATA = "model.onnx", "model.onnx.data"
HUNDRED_GB = 100 << 30
Stage = Literal["publish", "fit", "trial"]


class Bad(NamedTuple):
    """`make` copies a sound decoder's folder to a new one and spoils it; `words`, a pattern, is what `stage` says.

    `publish` refuses to take it, `fit` finds that it does not fit the bundle, `trial` that it does not run as it must.
    """

    make: Callable[[Path, Path], Path]
    stage: Stage
    words: str


def add_golden_cases(path: Path, tolerance: float = 1e-4) -> ComponentFolder:
    """Give a component folder two golden cases of its own making, random inputs and what its graph makes of them."""
    folder = ComponentFolder.open(path)
    session = Session.open(folder, SessionSettings(threads=1, provider="cpu"))
    for case in folder.manifest.golden:
        (path / case.file).unlink()
    cases = []
    for number, (batch, side) in enumerate([(1, 8), (2, 4)]):
        feeds = _random_feeds(session.contract, batch, side, seed=number)
        arrays = {f"input.{name}": array for name, array in feeds.items()}
        arrays |= {f"output.{name}": array for name, array in session.run(feeds).items()}
        cases.append(GoldenCase(file=f"golden-{number}.npz", tolerance=tolerance))
        np.savez_compressed(path / cases[-1].file, **arrays)  # type: ignore[arg-type] # as in exporters.parity
    return _sealed(path, golden=tuple(cases))


def stored_folder(settings: RegistrySettings, ref: ComponentRef) -> Path:
    """The folder in which the embedded registry keeps a version's files, for tests that damage them there."""
    client: MlflowClient = open_client(settings)
    run = client.get_run(client.get_model_version(ref.name, str(ref.version)).run_id)
    return Path(unquote(urlsplit(run.info.artifact_uri).path)) / "component"


def other_weights(good: Path, to: Path, *, noise: float = 0.0, scale: float = 1.0, golden: bool = True) -> Path:
    """A copy whose weights are scaled and differ by so much noise of their own size; with `golden`, cases of its own.

    With little noise and cases of its own it is as sound as what it was made from.
    """
    rng = np.random.default_rng(1)

    def change(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        spread = noise * array.std() * rng.standard_normal(array.shape)
        return np.asarray(scale * array + spread, array.dtype)

    _copy(good, to)
    _map_weights(to, change)
    return add_golden_cases(to).path if golden else to


def lenient_cases(good: Path, to: Path, tolerance: float = 1e9) -> Path:
    """A copy with quite other weights and the golden cases of the good ones, which allow whatever it gives."""
    other_weights(good, to, scale=-1.0, golden=False)
    cases = tuple(case.model_copy(update={"tolerance": tolerance}) for case in read_manifest(to).golden)
    return _sealed(to, golden=cases).path


def _random_feeds(contract: Contract, batch: int, side: int, seed: int) -> dict[str, npt.NDArray[Any]]:
    rng = np.random.default_rng(seed)
    tokens = max(contract.token_limits, default=1)
    downscale = 1 if contract.latent_space is None else contract.latent_space.downscale

    def shape(spec: TensorSpec) -> list[int]:
        long = side * downscale if spec.name == "pixels" else side
        sizes = {"batch": batch, "tokens": tokens, "height": long, "width": long}
        return [size for dim in spec.shape if (size := size_of(dim, sizes)) is not None]

    def array(spec: TensorSpec) -> npt.NDArray[Any]:
        if spec.name == "timestep":
            return rng.integers(0, contract.num_train_timesteps or 1, shape(spec)).astype(spec.dtype)
        if spec.dtype == "int64":
            return rng.integers(0, 4, shape(spec))  # the smallest vocabulary of any test has more words
        return rng.standard_normal(shape(spec)).astype(spec.dtype)

    return {spec.name: array(spec) for spec in contract.inputs}


def _copy(good: Path, to: Path) -> Path:
    return Path(shutil.copytree(good, to))


def _sealed(path: Path, **changes: object) -> ComponentFolder:
    """Write the manifest anew, so that only what the folder holds can give it away."""
    manifest = read_manifest(path).model_copy(update={"files": record_files(path), **changes})
    return write_manifest(path, Manifest.model_validate(manifest.model_dump()))


def _write_manifest_unseen(path: Path, **changes: object) -> Path:
    """Write a manifest that does not tell the truth about its folder."""
    manifest = read_manifest(path).model_copy(update=changes)
    (path / MANIFEST_NAME).write_text(manifest.model_dump_json(), encoding="utf-8")
    return path


def _map_weights(path: Path, change: Callable[[npt.NDArray[Any]], npt.NDArray[Any]]) -> None:
    model = onnx.load(path / GRAPH)
    for tensor in model.graph.initializer:
        # what has fewer axes may be a size or a factor, without which the graph is none
        if tensor.data_type in (TensorProto.FLOAT, TensorProto.FLOAT16) and len(tensor.dims) > 1:
            tensor.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(tensor)), tensor.name))
    _save(path, model)


def _save(path: Path, model: onnx.ModelProto) -> None:
    (path / DATA).unlink(missing_ok=True)
    (path / GRAPH).write_bytes(model.SerializeToString())
    _sealed(path)


def _with_graph(content: bytes) -> Callable[[Path, Path], Path]:
    def make(good: Path, to: Path) -> Path:
        _copy(good, to)
        (to / GRAPH).write_bytes(content)
        return _sealed(to).path

    return make


def _truncated(good: Path, to: Path) -> Path:
    content = (good / GRAPH).read_bytes()
    return _with_graph(content[: len(content) // 2])(good, to)


def _truncated_data(good: Path, to: Path) -> Path:
    _external(good, to)
    content = (to / DATA).read_bytes()
    (to / DATA).write_bytes(content[: len(content) // 2])
    return _sealed(to).path


def _external(good: Path, to: Path) -> Path:
    """A sound copy with all of its weights in a file of their own."""
    model = onnx.load(good / GRAPH)
    _copy(good, to)
    (to / DATA).unlink(missing_ok=True)
    onnx.save_model(model, to / GRAPH, save_as_external_data=True, location=DATA, size_threshold=0)
    return _sealed(to).path


def _missing_data(good: Path, to: Path) -> Path:
    _external(good, to)
    (to / DATA).unlink()
    return _sealed(to).path


def _listed_but_missing_data(good: Path, to: Path) -> Path:
    _external(good, to)
    (to / DATA).unlink()
    return to


def _wrong_digest(good: Path, to: Path) -> Path:
    _copy(good, to)
    content = bytearray((to / GRAPH).read_bytes())
    content[-1] ^= 1
    (to / GRAPH).write_bytes(content)
    return to


def _data_outside(good: Path, to: Path) -> Path:
    _external(good, to)
    (to / DATA).rename(to.parent / "outside.data")
    model = onnx.load(to / GRAPH, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "../outside.data"
    _save(to, model)
    return to


def _data_a_link(good: Path, to: Path) -> Path:
    _external(good, to)
    files = record_files(to)
    (to / DATA).rename(to.parent / "linked.data")
    (to / DATA).symlink_to(to.parent / "linked.data")
    return _write_manifest_unseen(to, files=files)


def _another_kind(good: Path, to: Path) -> Path:
    contract = read_manifest(_copy(good, to)).contract
    turned = contract.model_copy(update={"kind": Kind.PREVIEW_DECODER})
    return _sealed(to, contract=turned).path


def _graph_of_another_kind(good: Path, to: Path) -> Path:
    pixels, mean = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", channels, "height", "width"])
        for name, channels in (("pixels", 3), ("mean", 4))
    )
    channels = numpy_helper.from_array(np.array([0, 1, 2, 0]), "channels")
    node = helper.make_node("Gather", ["pixels", "channels"], ["mean"], axis=1)
    graph = helper.make_graph([node], "encoder", [pixels], [mean], [channels])
    _copy(good, to)
    _save(to, helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10))
    return to


def _sixteen_channels(good: Path, to: Path) -> Path:
    contract = read_manifest(_copy(good, to)).contract
    [latents] = contract.inputs
    assert contract.latent_space is not None
    changed = contract.model_copy(
        update={
            "inputs": (latents.model_copy(update={"shape": ("batch", 16, *latents.shape[2:])}),),
            "latent_space": contract.latent_space.model_copy(update={"channels": 16}),
        }
    )
    return _sealed(to, contract=changed).path


def _wrong_scaling_factor(good: Path, to: Path) -> Path:
    contract = read_manifest(_copy(good, to)).contract
    assert contract.latent_space is not None
    space = contract.latent_space.model_copy(update={"scaling_factor": 0.18215})
    return _sealed(to, contract=contract.model_copy(update={"latent_space": space})).path


def _nan_weights(good: Path, to: Path) -> Path:
    _copy(good, to)
    _map_weights(to, lambda array: np.full_like(array, np.nan))
    return to


def _of_nodes(nodes: list[onnx.NodeProto], initializers: list[TensorProto]) -> Callable[[Path, Path], Path]:
    """A graph of other nodes, from `latents` to `pixels`."""

    def make(good: Path, to: Path) -> Path:
        model = onnx.load(good / GRAPH, load_external_data=False)
        graph = helper.make_graph(nodes, "other", model.graph.input, model.graph.output, initializers)
        opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.example", 1)]
        _copy(good, to)
        _save(to, helper.make_model(graph, opset_imports=opsets, ir_version=10))
        return to

    return make


_RGB = numpy_helper.from_array(np.array([0, 0, 0]), "rgb")
_TO_PIXELS = helper.make_node("Gather", ["there", "rgb"], ["pixels"], axis=1)


def _endless_loop() -> Callable[[Path, Path], Path]:
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go_on_in"], ["go_on_out"]),
            helper.make_node("Add", ["value_in", "value_in"], ["value_out"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("go_on_in", TensorProto.BOOL, []),
            helper.make_tensor_value_info("value_in", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("go_on_out", TensorProto.BOOL, []),
            helper.make_tensor_value_info("value_out", TensorProto.FLOAT, None),
        ],
    )
    loop = helper.make_node("Loop", ["", "always", "latents"], ["there"], body=body)
    return _of_nodes([loop, _TO_PIXELS], [numpy_helper.from_array(np.array(True), "always"), _RGB])


def _takes_100_gb() -> Callable[[Path, Path], Path]:
    # made from the input's shape, so that no optimiser can do it beforehand
    nodes = [
        helper.make_node("Shape", ["latents"], ["batch"], start=0, end=1),
        helper.make_node("Mul", ["batch", "many"], ["wanted"]),
        helper.make_node("ConstantOfShape", ["wanted"], ["zeros"]),
        helper.make_node("ReduceMax", ["zeros"], ["zero"], keepdims=0),
        helper.make_node("Add", ["latents", "zero"], ["there"]),
        _TO_PIXELS,
    ]
    return _of_nodes(nodes, [numpy_helper.from_array(np.array([HUNDRED_GB // 4]), "many"), _RGB])


def _graph_claims_100_gb(good: Path, to: Path) -> Path:
    claimed = TensorProto(name="huge", data_type=TensorProto.FLOAT, dims=[HUNDRED_GB // 4])
    claimed.raw_data = b""
    set_external_data(claimed, DATA, offset=0, length=HUNDRED_GB)
    claimed.ClearField("raw_data")
    nodes = [
        helper.make_node("ReduceMax", ["huge"], ["largest"], keepdims=0),
        helper.make_node("Add", ["latents", "largest"], ["there"]),
        _TO_PIXELS,
    ]
    _of_nodes(nodes, [claimed, _RGB])(good, to)
    (to / DATA).write_bytes(b"\0" * 64)
    return _sealed(to).path


def _manifest_claims_100_gb(good: Path, to: Path) -> Path:
    files = read_manifest(_copy(good, to)).files
    claimed = FileRecord(size=HUNDRED_GB, sha256=files[GRAPH].sha256)
    return _write_manifest_unseen(to, files=files | {GRAPH: claimed})


def _flat(good: Path, to: Path) -> Path:
    return other_weights(good, to, scale=0.0)


def _another_picture(good: Path, to: Path) -> Path:
    return other_weights(good, to, scale=-1.0)


def _no_golden_case(good: Path, to: Path) -> Path:
    _copy(good, to)
    for case in read_manifest(to).golden:
        (to / case.file).unlink()
    return _sealed(to, golden=()).path


_UNREADABLE = r"cannot load graph 'main' \(\w+\); the model is damaged, truncated or made for another version"
_MEMORY = "memory: needs more than the limit of [0-9]+ bytes"

BAD: dict[str, Bad] = {
    "truncated": Bad(_truncated, "trial", _UNREADABLE),
    "truncated data": Bad(_truncated_data, "trial", _UNREADABLE),
    "random bytes": Bad(_with_graph(np.random.default_rng(0).bytes(5000)), "trial", _UNREADABLE),
    "0 bytes": Bad(_with_graph(b""), "trial", _UNREADABLE),
    "missing external data": Bad(_missing_data, "trial", _UNREADABLE),
    "listed but missing external data": Bad(_listed_but_missing_data, "publish", "model.onnx.data is missing"),
    "wrong digest": Bad(_wrong_digest, "publish", "the content of model.onnx is not what component.json says"),
    "external data outside the folder": Bad(_data_outside, "trial", _UNREADABLE),
    "external data a symlink": Bad(_data_a_link, "publish", "model.onnx.data is a link; a component holds its own"),
    "wrong kind": Bad(_another_kind, "publish", r"names a vae_decoder, and \w+ is a preview_decoder"),
    "a graph of another kind": Bad(
        _graph_of_another_kind, "trial", "breaks its contract: input latents: the contract has it, the graph has not"
    ),
    "16 latent channels": Bad(
        _sixteen_channels,
        "fit",
        r"latent space channels: (vae_decoder has 16, \w+ has 4|\w+ has 4, vae_decoder has 16)",
    ),
    "wrong scaling factor": Bad(_wrong_scaling_factor, "fit", "latent space scaling_factor: .*0.18215"),
    "NaN weights": Bad(_nan_weights, "trial", "golden case golden-0.npz is off by nan"),
    "an endless loop": Bad(_endless_loop(), "trial", "time: did not finish within the limit of [0-9]+ s"),
    "a file that claims 100 GB": Bad(
        _manifest_claims_100_gb, "publish", f"model.onnx has [0-9]+ bytes, component.json says {HUNDRED_GB}"
    ),
    "weights that claim 100 GB": Bad(_graph_claims_100_gb, "trial", _MEMORY),
    "100 GB while it runs": Bad(_takes_100_gb(), "trial", _MEMORY),
    "custom ops": Bad(
        _of_nodes([helper.make_node("Exec", ["latents"], ["pixels"], domain="com.example")], []), "trial", _UNREADABLE
    ),
    "a flat picture": Bad(_flat, "trial", "the picture of golden latents 1 is flat"),
    "another picture": Bad(_another_picture, "trial", r"PSNR against the current version is [0-9.-]+ dB at worst"),
    "lenient golden cases": Bad(lenient_cases, "trial", "golden case golden-0.npz is off by [0-9.]+, at most"),
    "no golden case": Bad(_no_golden_case, "trial", "vae_decoder: no golden case to test it by"),
}
