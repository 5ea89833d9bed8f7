from pathlib import Path

import pytest

from components.contract import Contract, Kind, LatentSpace, TensorSpec
from components.folder import ComponentFolder, record_files, write_manifest
from components.manifest import FileRecord, Manifest, Origin, Parity

EMOJI = LatentSpace(id="emoji-1", channels=4, downscale=8, scaling_factor=0.5)


@pytest.fixture
def decoder() -> Contract:
    return Contract(
        kind=Kind.VAE_DECODER,
        inputs=(TensorSpec(name="latents", dtype="float32", shape=("batch", 4, "height", "width")),),
        outputs=(TensorSpec(name="pixels", dtype="float32", shape=("batch", 3, "height", "width")),),
        latent_space=EMOJI,
    )


@pytest.fixture
def manifest_of(decoder: Contract) -> Manifest:
    return Manifest(
        contract=decoder,
        graphs={"main": "model.onnx"},
        weights="float16",
        files={"model.onnx": FileRecord(size=0, sha256="0" * 64)},
        parity=Parity(max_absolute_error=0.0, shapes={"latents": (2, 4, 8, 8)}),
        origin=Origin(source="test", exporter={}),
    )


@pytest.fixture
def folder(tmp_path: Path, manifest_of: Manifest) -> ComponentFolder:
    path = tmp_path / "vae_decoder"
    (path / "golden").mkdir(parents=True)
    (path / "model.onnx").write_bytes(b"graph")
    (path / "golden" / "0.npz").write_bytes(b"case")
    return write_manifest(path, manifest_of.model_copy(update={"files": record_files(path)}))
