"""A bundle of four small networks, so that serving is tested without a trained model.

The denoiser's cost grows with the picture: 64x64 costs well under a millisecond an evaluation, 1024x1024 some 40.
"""

import asyncio
import logging
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, pre_tokenizers

from components.contract import (
    PARTS,
    TEXT_KINDS,
    Conditioning,
    Contract,
    ImageChannels,
    Kind,
    LatentProjection,
    LatentSpace,
    NoiseSchedule,
    TensorSpec,
)
from components.folder import record_files, write_manifest
from components.manifest import Manifest, Origin, Parity
from components.reference import ComponentRef
from registry.settings import RegistrySettings
from services.messages import LiveModel, LiveRecord
from services.rollout.last_good import live_model
from services.rollout.settings import RolloutSettings
from services.rollout.start import begin
from services.stage_args import StageArgs
from services.stage_host import StageSettings
from tests.bad_components import add_golden_cases
from tests.services.cluster import Cluster, running
from tests.services.places import BucketPlace, FolderPlace, PlaceLike, s3_client, with_variables

WIDTH, TOKENS, CHANNELS, DOWNSCALE, HIDDEN = 6, 8, 4, 8, 64
WORDS = ("[PAD]", "[UNK]", "a", "red", "green", "apple", "blue", "boat")
SPACE = LatentSpace(id="toy", channels=CHANNELS, downscale=DOWNSCALE, scaling_factor=0.5)
TEXT = (Conditioning(name="hidden_states", width=WIDTH, tokens=TOKENS),)


def _spec(name: str, *shape: int | str, dtype: str = "float32") -> TensorSpec:
    return TensorSpec.model_validate({"name": name, "dtype": dtype, "shape": ("batch", *shape)})


_LATENT = (CHANNELS, "height", "width")
_HIDDEN_STATES, _EARLIER = (_spec(name, "tokens", WIDTH) for name in ("hidden_states", "hidden_states_1"))
CONTRACTS = {
    Kind.TEXT_ENCODER: Contract(
        kind=Kind.TEXT_ENCODER,
        inputs=(_spec("input_ids", "tokens", dtype="int64"),),
        outputs=(_HIDDEN_STATES, _EARLIER),
        conditioning=TEXT,
        skipped_layers=((_EARLIER.name,),),
    ),
    Kind.DENOISER: Contract(
        kind=Kind.DENOISER,
        inputs=(_spec("latents", *_LATENT), _spec("timestep"), _HIDDEN_STATES),
        outputs=(_spec("prediction", *_LATENT),),
        latent_space=SPACE,
        conditioning=TEXT,
        noise_schedule=NoiseSchedule(
            prediction_type="epsilon",
            num_train_timesteps=1000,
            beta_schedule="scaled_linear",
            beta_start=0.00085,
            beta_end=0.012,
        ),
        latent_size=(8, 8),
        latent_multiple=2,
        preview=LatentProjection(factors=((0.5, 0, 0), (0, 0.5, 0), (0, 0, 0.5), (0, 0, 0)), bias=(0, 0, 0)),
    ),
    Kind.VAE_DECODER: Contract(
        kind=Kind.VAE_DECODER,
        inputs=(_spec("latents", *_LATENT),),
        outputs=(_spec("pixels", 3, "height", "width"),),
        latent_space=SPACE,
    ),
    Kind.VAE_ENCODER: Contract(
        kind=Kind.VAE_ENCODER,
        inputs=(_spec("pixels", 3, "height", "width"),),
        outputs=(_spec("mean", *_LATENT), _spec("log_variance", *_LATENT)),
        latent_space=SPACE,
    ),
}
NODES: dict[Kind, Sequence[onnx.NodeProto]] = {
    Kind.TEXT_ENCODER: [
        helper.make_node("Gather", ["embedding", "input_ids"], ["hidden_states"]),
        helper.make_node("Tanh", ["hidden_states"], ["hidden_states_1"]),
    ],
    Kind.DENOISER: [
        helper.make_node("ReduceMean", ["hidden_states"], ["text_mean"], axes=[1], keepdims=0),
        helper.make_node("MatMul", ["text_mean", "text"], ["text_flat"]),
        helper.make_node("Reshape", ["text_flat", "grid"], ["text_grid"]),
        helper.make_node("Reshape", ["timestep", "row"], ["time_grid"]),
        helper.make_node("Mul", ["time_grid", "milli"], ["time_scaled"]),
        helper.make_node("Conv", ["latents", "conv_in"], ["h1"], pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["h1", "text_grid"], ["h2"]),
        helper.make_node("Add", ["h2", "time_scaled"], ["h3"]),
        helper.make_node("Tanh", ["h3"], ["h4"]),
        helper.make_node("Conv", ["h4", "conv_middle"], ["h5"], pads=[1, 1, 1, 1]),
        helper.make_node("Tanh", ["h5"], ["h6"]),
        helper.make_node("Conv", ["h6", "conv_out"], ["prediction"], pads=[1, 1, 1, 1]),
    ],
    Kind.VAE_DECODER: [helper.make_node("ConvTranspose", ["latents", "up"], ["pixels"], strides=[DOWNSCALE] * 2)],
    Kind.VAE_ENCODER: [
        helper.make_node("Conv", ["pixels", "down"], ["both"], strides=[DOWNSCALE] * 2),
        helper.make_node("Split", ["both"], ["mean", "log_variance"], axis=1),
    ],
}


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """The one Ray cluster of all tests that deploy on one: a process can start no second."""
    with running() as made:
        yield made


@pytest.fixture(scope="session")
def toy_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "toy"
    for kind in CONTRACTS:
        write_component(path / kind, kind)
    return path


@pytest.fixture(scope="session")
def live() -> LiveModel:
    """What is live of the toy bundle, published once."""
    digests = {kind: f"{index:064x}" for index, kind in enumerate(CONTRACTS)}
    pins = {kind: ComponentRef(name=f"toy.{kind}", version=1, sha256=digests[kind]) for kind in CONTRACTS}
    return LiveModel("toy", pins, CONTRACTS)


@pytest.fixture(scope="session")
def published(toy_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[LiveModel, StageSettings]:
    """The toy bundle in a registry of its own, and what a stage needs to open it."""
    registry = RegistrySettings(home=tmp_path_factory.mktemp("home"))
    start, _away = begin(RolloutSettings(bundle="toy", folder=toy_bundle, registry=registry))
    live = live_model("toy", start.rollout, start.contracts)
    return live, StageSettings(registry=registry, args=StageArgs(threads=1))


@pytest.fixture
def serve_log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """What goes to Serve's log, which does not reach the root logger that pytest listens to."""
    logger = logging.getLogger("ray.serve")
    caplog.set_level(logging.INFO, "ray.serve")
    logger.addHandler(caplog.handler)
    yield caplog
    logger.removeHandler(caplog.handler)


class FakeRollout:
    """A handle's one method that stages call."""

    def __init__(self, live: LiveModel) -> None:
        self.said = record_of(live)
        self.record = self

    def remote(self) -> Awaitable[LiveRecord]:
        return asyncio.sleep(0, self.said)


def record_of(live: LiveModel, **more: Any) -> LiveRecord:
    """What the rollout controller says where nothing but the live versions is there."""
    versions = {pin: live.contracts[kind] for kind, pin in live.pins.items()}
    return LiveRecord("first", live, versions | more.pop("versions", {}), **more)


def looking_at(live: LiveModel, *looks: ImageChannels, **changes: Any) -> LiveRecord:
    """The same where the denoiser looks at something beside the latents."""
    denoiser = live.contracts[Kind.DENOISER]
    channels = sum(part.channels for part in looks)
    seen = TensorSpec(name="image_channels", dtype="float32", shape=("batch", channels, "height", "width"))
    inputs = (*denoiser.inputs, seen, *changes.pop("inputs", ()))
    changed = denoiser.model_copy(update={"inputs": inputs, "image_channels": looks, **changes})
    return record_of(replace(live, contracts={**live.contracts, Kind.DENOISER: changed}))


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy bundle with golden cases, without which nothing passes the gate."""
    path = tmp_path_factory.mktemp("models") / "toy"
    for kind in PARTS:
        write_component(path / kind, kind)
        add_golden_cases(path / kind)
    return path


def write_component(
    path: Path,
    kind: Kind,
    contract: Contract | None = None,
    nodes: Sequence[onnx.NodeProto] | None = None,
    more: Mapping[str, npt.NDArray[Any]] | None = None,
) -> None:
    """Write a component of the toy bundle, or of another contract and graph, with `more` weights."""
    contract = CONTRACTS[kind] if contract is None else contract
    path.mkdir(parents=True)
    graph = _graph(contract, NODES[kind] if nodes is None else nodes, {} if more is None else more)
    (path / "model.onnx").write_bytes(graph.SerializeToString())
    if kind in TEXT_KINDS:
        (path / "tokenizer.json").write_text(_tokenizer().to_str(), encoding="utf-8")
    write_manifest(
        path,
        Manifest(
            contract=contract,
            graphs={"main": "model.onnx"},
            weights="float32",
            files=record_files(path),
            parity=Parity(max_absolute_error=0.0, shapes={}),
            origin=Origin(source="a test", exporter={}),
        ),
    )


def _tokenizer() -> Tokenizer:
    words = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.enable_truncation(TOKENS)
    words.enable_padding(length=TOKENS, pad_token="[PAD]", pad_id=0)
    return words


def _arrays() -> dict[str, npt.NDArray[Any]]:
    rng = np.random.default_rng(0)

    def weight(*shape: int) -> npt.NDArray[np.float32]:
        return rng.standard_normal(shape, np.float32) / np.float32(np.sqrt(np.prod(shape[1:])))

    return {
        "embedding": weight(len(WORDS), WIDTH) * np.float32(4),
        "text": weight(WIDTH, HIDDEN),
        "conv_in": weight(HIDDEN, CHANNELS, 3, 3),
        "conv_middle": weight(HIDDEN, HIDDEN, 3, 3),
        "conv_out": weight(CHANNELS, HIDDEN, 3, 3),
        "up": weight(CHANNELS, 3, DOWNSCALE, DOWNSCALE),
        "down": weight(2 * CHANNELS, 3, DOWNSCALE, DOWNSCALE),
        "grid": np.array([-1, HIDDEN, 1, 1]),
        "row": np.array([-1, 1, 1, 1]),
        "milli": np.array(0.001, np.float32),
    }


def _graph(
    contract: Contract, nodes: Sequence[onnx.NodeProto], more: Mapping[str, npt.NDArray[Any]]
) -> onnx.ModelProto:
    arrays = {**_arrays(), **more}
    used = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        contract.kind,
        [_info(spec) for spec in contract.inputs],
        [_info(spec) for spec in contract.outputs],
        [numpy_helper.from_array(array, name) for name, array in arrays.items() if name in used],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)


def _info(spec: TensorSpec) -> onnx.ValueInfoProto:
    dtype = TensorProto.INT64 if spec.dtype == "int64" else TensorProto.FLOAT
    # one graph's heights are not another's: names of dimensions hold within a tensor only
    # and what is left out has one row
    shared = () if spec.optional else ("batch",)
    shape = [dim if isinstance(dim, int) or dim in shared else f"{spec.name}_{dim}" for dim in spec.shape]
    return helper.make_tensor_value_info(spec.name, dtype, shape)


@pytest.fixture(scope="session")
def s3() -> Iterator[Any]:
    with s3_client() as client:
        yield client


@pytest.fixture
def folder_place(tmp_path: Path) -> FolderPlace:
    return FolderPlace(tmp_path / "files")


@pytest.fixture
def bucket_place(s3: Any, monkeypatch: pytest.MonkeyPatch) -> BucketPlace:
    with_variables(monkeypatch, s3.meta.endpoint_url)
    return BucketPlace(s3, f"a-server/{uuid4()}")


@pytest.fixture(params=["folder", "bucket"])
def place(request: pytest.FixtureRequest) -> PlaceLike:
    found: PlaceLike = request.getfixturevalue(f"{request.param}_place")
    return found
