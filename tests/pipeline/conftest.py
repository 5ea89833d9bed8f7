"""A bundle of four small networks, made of plain ONNX operators, and the same networks in torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch.nn import functional

from components.contract import Conditioning, Contract, Kind, LatentSpace, NoiseSchedule, TensorSpec
from components.folder import record_files, write_manifest
from components.manifest import Manifest, Origin, Parity

F32 = npt.NDArray[np.float32]
WIDTH, TOKENS, CHANNELS, DOWNSCALE = 6, 8, 4, 2
WORDS = ("[PAD]", "<s>", "</s>", "[UNK]", "a", "red", "green", "apple", "blue", "boat")
SPACE = LatentSpace(id="tiny", channels=CHANNELS, downscale=DOWNSCALE, scaling_factor=0.55, shift_factor=0.1)
TEXT = (Conditioning(name="hidden_states", width=WIDTH, tokens=TOKENS),)
SCHEDULE = NoiseSchedule(
    prediction_type="v_prediction",
    num_train_timesteps=1000,
    beta_schedule="scaled_linear",
    beta_start=0.00085,
    beta_end=0.012,
)

IDS = TensorSpec(name="input_ids", dtype="int64", shape=("batch", "tokens"))
HIDDEN = TensorSpec(name="hidden_states", dtype="float32", shape=("batch", "tokens", WIDTH))
EARLIER = HIDDEN.model_copy(update={"name": "hidden_states_1"})
TIMESTEP = TensorSpec(name="timestep", dtype="float32", shape=("batch",))
PIXELS = TensorSpec(name="pixels", dtype="float32", shape=("batch", 3, "height", "width"))


def latent_spec(name: str) -> TensorSpec:
    return TensorSpec(name=name, dtype="float32", shape=("batch", CHANNELS, "height", "width"))


CONTRACTS = {
    Kind.TEXT_ENCODER: Contract(
        kind=Kind.TEXT_ENCODER,
        inputs=(IDS,),
        outputs=(HIDDEN, EARLIER),
        conditioning=TEXT,
        skipped_layers=((EARLIER.name,),),
    ),
    Kind.DENOISER: Contract(
        kind=Kind.DENOISER,
        inputs=(latent_spec("latents"), TIMESTEP, HIDDEN),
        outputs=(latent_spec("prediction"),),
        latent_space=SPACE,
        conditioning=TEXT,
        noise_schedule=SCHEDULE,
        latent_size=(8, 8),
    ),
    Kind.VAE_DECODER: Contract(
        kind=Kind.VAE_DECODER, inputs=(latent_spec("latents"),), outputs=(PIXELS,), latent_space=SPACE
    ),
    Kind.VAE_ENCODER: Contract(
        kind=Kind.VAE_ENCODER,
        inputs=(PIXELS,),
        outputs=(latent_spec("mean"), latent_spec("log_variance")),
        latent_space=SPACE,
    ),
}


@dataclass(frozen=True)
class Networks:
    """The weights, and what each network computes, in torch."""

    weights: dict[str, F32]

    def encode_text(self, input_ids: torch.Tensor) -> torch.Tensor:
        return functional.embedding(input_ids, self._tensor("embedding"))

    def predict(self, latents: torch.Tensor, timestep: torch.Tensor, hidden_states: torch.Tensor) -> torch.Tensor:
        text = hidden_states.flatten(1) @ self._tensor("text")
        told = (timestep * 0.001)[:, None, None, None]
        return torch.tanh(functional.conv2d(latents, self._tensor("conv"), padding=1) + text[:, :, None, None] + told)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        return functional.conv_transpose2d(latents, self._tensor("up"), stride=DOWNSCALE)

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        return functional.conv2d(pixels, self._tensor("down"), stride=DOWNSCALE)

    def _tensor(self, name: str) -> torch.Tensor:
        return torch.from_numpy(self.weights[name])


@pytest.fixture(scope="session")
def networks() -> Networks:
    rng = np.random.default_rng(0)

    def weight(*shape: int) -> F32:
        return rng.standard_normal(shape, np.float32) * np.float32(0.3)

    return Networks(
        {
            "embedding": weight(len(WORDS), WIDTH) * np.float32(4),
            "conv": weight(CHANNELS, CHANNELS, 3, 3),
            "text": weight(TOKENS * WIDTH, CHANNELS),
            "up": weight(CHANNELS, 3, DOWNSCALE, DOWNSCALE),
            "down": weight(2 * CHANNELS, 3, DOWNSCALE, DOWNSCALE),
        }
    )


@pytest.fixture(scope="session")
def bundle(networks: Networks, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "tiny"
    for kind, contract in CONTRACTS.items():
        write_component(path / kind, contract, networks)
    return path


def write_component(path: Path, contract: Contract, networks: Networks) -> None:
    path.mkdir(parents=True)
    (path / "model.onnx").write_bytes(_graph(contract, networks).SerializeToString())
    if contract.kind == Kind.TEXT_ENCODER:
        (path / "tokenizer.json").write_text(tokenizer().to_str(), encoding="utf-8")
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


def tokenizer() -> Tokenizer:
    words = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", WORDS.index("<s>")), ("</s>", WORDS.index("</s>"))]
    )
    words.enable_truncation(TOKENS)
    words.enable_padding(length=TOKENS, pad_token="[PAD]", pad_id=0)
    return words


def _graph(contract: Contract, networks: Networks) -> onnx.ModelProto:
    nodes, initializers = _BODIES[contract.kind]
    numbers = {
        "flat": np.array([0, -1]),
        "last": np.array([2, 3]),
        "row": np.array([-1, 1, 1, 1]),
        "milli": np.array(0.001, np.float32),
    }
    arrays = {**networks.weights, **numbers}
    return helper.make_model(
        helper.make_graph(
            nodes,
            contract.kind,
            [_info(spec) for spec in contract.inputs],
            [_info(spec) for spec in contract.outputs],
            [numpy_helper.from_array(arrays[name], name) for name in initializers],
        ),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=10,
    )


def _info(spec: TensorSpec) -> onnx.ValueInfoProto:
    dtype = TensorProto.INT64 if spec.dtype == "int64" else TensorProto.FLOAT
    # one graph's heights are not another's: names of dimensions hold within a tensor only
    shape = [dim if isinstance(dim, int) or dim == "batch" else f"{spec.name}_{dim}" for dim in spec.shape]
    return helper.make_tensor_value_info(spec.name, dtype, shape)


_BODIES: dict[Kind, tuple[Sequence[onnx.NodeProto], Sequence[str]]] = {
    Kind.TEXT_ENCODER: (
        [
            helper.make_node("Gather", ["embedding", "input_ids"], ["hidden_states"]),
            helper.make_node("Tanh", ["hidden_states"], ["hidden_states_1"]),
        ],
        ["embedding"],
    ),
    Kind.DENOISER: (
        [
            # Not ReduceMean over the tokens: over an axis in the middle ONNX Runtime adds in another order for one row
            # than for several, and the bytes of a row would depend on its company.
            helper.make_node("Reshape", ["hidden_states", "flat"], ["all_tokens"]),
            helper.make_node("MatMul", ["all_tokens", "text"], ["flat_text"]),
            helper.make_node("Unsqueeze", ["flat_text", "last"], ["text_grid"]),
            helper.make_node("Mul", ["timestep", "milli"], ["told"]),
            helper.make_node("Reshape", ["told", "row"], ["told_grid"]),
            helper.make_node("Conv", ["latents", "conv"], ["seen"], pads=[1, 1, 1, 1]),
            helper.make_node("Add", ["seen", "text_grid"], ["with_text"]),
            helper.make_node("Add", ["with_text", "told_grid"], ["sum"]),
            helper.make_node("Tanh", ["sum"], ["prediction"]),
        ],
        ["flat", "text", "last", "milli", "row", "conv"],
    ),
    Kind.VAE_DECODER: (
        [helper.make_node("ConvTranspose", ["latents", "up"], ["pixels"], strides=[DOWNSCALE, DOWNSCALE])],
        ["up"],
    ),
    Kind.VAE_ENCODER: (
        [
            helper.make_node("Conv", ["pixels", "down"], ["both"], strides=[DOWNSCALE, DOWNSCALE]),
            helper.make_node("Split", ["both"], ["mean", "log_variance"], axis=1, num_outputs=2),
        ],
        ["down"],
    ),
}
