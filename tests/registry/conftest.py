import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from components.contract import (
    CONTROL_PREFIXES,
    PARTS,
    Conditioning,
    Contract,
    Kind,
    LatentSpace,
    NoiseSchedule,
    TensorSpec,
)
from components.folder import record_files, write_manifest
from components.manifest import GoldenCase, Manifest, Origin, Parity
from registry.bundle import publish_bundle
from registry.registry import Registry
from registry.settings import RegistrySettings

WriteComponent = Callable[..., Path]

_SPACE = LatentSpace(id="emoji-1", channels=4, downscale=8, scaling_factor=0.5)
_CONDITIONING = (Conditioning(name="hidden_states", width=16, tokens=32),)
_NOISE = NoiseSchedule(
    prediction_type="v_prediction",
    num_train_timesteps=1000,
    beta_schedule="squaredcos_cap_v2",
    beta_start=1e-4,
    beta_end=0.02,
)


def _contract(kind: Kind, space: LatentSpace = _SPACE) -> Contract:
    tensors = (TensorSpec(name="x", dtype="float32", shape=("batch", 4, "height", "width")),)
    meets_latents = kind != Kind.TEXT_ENCODER
    meets_text = kind in (Kind.TEXT_ENCODER, Kind.DENOISER, Kind.CONTROLNET)
    added = {
        control: TensorSpec(name=f"{prefix}0", dtype="float32", shape=("batch", 8, "height", "width"), optional=True)
        for control, prefix in CONTROL_PREFIXES.items()
    }
    return Contract(
        kind=kind,
        inputs=(*tensors, *added.values()) if kind == Kind.DENOISER else tensors,
        outputs=(added[kind],) if kind in added else tensors,
        latent_space=space if meets_latents else None,
        conditioning=_CONDITIONING if meets_text else (),
        noise_schedule=_NOISE if kind == Kind.DENOISER else None,
        latent_size=(16, 16) if kind == Kind.DENOISER else None,
    )


def _write_component(path: Path, kind: Kind = Kind.VAE_DECODER, content: bytes = b"weights", **space: object) -> Path:
    """A component folder that has everything but a graph that runs; nothing in the registry opens one."""
    (path / "golden").mkdir(parents=True)
    (path / "model.onnx").write_bytes(b"graph")
    (path / "model.onnx.data").write_bytes(content)
    (path / "model.onnx.data").chmod(0o600)  # as onnx.save_model leaves it
    (path / "golden" / "0.npz").write_bytes(b"case")
    manifest = Manifest(
        contract=_contract(kind, _SPACE.model_copy(update=space)),
        graphs={"main": "model.onnx"},
        weights="float16",
        files=record_files(path),
        golden=(GoldenCase(file="golden/0.npz", tolerance=1e-4),),
        parity=Parity(max_absolute_error=3e-6, shapes={"x": (2, 4, 8, 8)}),
        origin=Origin(source="a test", licence="MIT", exporter={"torch": "2"}),
    )
    return write_manifest(path, manifest).path


def _write_bundle(path: Path) -> Path:
    for kind in (Kind.TEXT_ENCODER, Kind.DENOISER, Kind.VAE_DECODER, Kind.VAE_ENCODER):
        _write_component(path / kind, kind)
    return path


@pytest.fixture
def write_component() -> WriteComponent:
    return _write_component


@pytest.fixture
def write_bundle() -> Callable[[Path], Path]:
    return _write_bundle


@pytest.fixture
def decoder(tmp_path: Path) -> Path:
    return _write_component(tmp_path / "vae_decoder")


@pytest.fixture(autouse=True)
def _own_environment() -> Iterator[None]:
    """Connecting sets MLflow's variables for the life of a process; here that life is one test."""
    before = dict(os.environ)
    for name in [name for name in before if name.startswith(("MLFLOW_", "LATENTWORKS_"))]:
        del os.environ[name]
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="session")
def empty_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home whose database has its tables; making them takes seconds."""
    home = tmp_path_factory.mktemp("empty") / "home"
    Registry.connect(RegistrySettings(home=home))
    return home


@pytest.fixture
def settings(tmp_path: Path, empty_home: Path) -> RegistrySettings:
    home = tmp_path / "a home"
    home.mkdir()
    shutil.copy(empty_home / "mlflow.db", home / "mlflow.db")
    return RegistrySettings(home=home)


@pytest.fixture
def registry(settings: RegistrySettings) -> Registry:
    return Registry.connect(settings)


@pytest.fixture(scope="session")
def four_parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled model without its further decoders, so that no second version is there."""
    folder = tmp_path_factory.mktemp("four") / "emoji"
    folder.mkdir()
    for kind in PARTS:
        (folder / kind).symlink_to(Path(__file__).parents[2] / "models" / "emoji" / kind, target_is_directory=True)
    return folder


@pytest.fixture(scope="session")
def emoji_home(tmp_path_factory: pytest.TempPathFactory, empty_home: Path) -> Path:
    """A home with a bundle in production, put there by a start, and newer versions that nothing points at.

    Of `emoji.vae_decoder` 2 fits, 3 has 16 channels; of `emoji.denoiser` 2 fits; the last of each, 2, 3, 4 and 2 in the
    order of `PARTS`, are of another latent space, `emoji-2`.
    """
    folder = tmp_path_factory.mktemp("emoji")
    home = folder / "home"
    home.mkdir()
    shutil.copy(empty_home / "mlflow.db", home / "mlflow.db")
    registry = Registry.connect(RegistrySettings(home=home))
    publish_bundle(registry, _write_bundle(folder / "emoji"), "emoji")
    newer: list[tuple[Kind, dict[str, object]]]
    newer = [(Kind.VAE_DECODER, {}), (Kind.VAE_DECODER, {"channels": 16}), (Kind.DENOISER, {})]
    newer += [(kind, {"id": "emoji-2"}) for kind in PARTS]
    for index, (kind, space) in enumerate(newer):
        registry.publish(_write_component(folder / str(index), kind, b"newer", **space), f"emoji.{kind}")
    return home


@pytest.fixture
def emoji_settings(tmp_path: Path, emoji_home: Path) -> RegistrySettings:
    """The settings of a registry of its own with what `emoji_home` holds."""
    home = tmp_path / "emoji home"
    home.mkdir()
    shutil.copy(emoji_home / "mlflow.db", home / "mlflow.db")
    return RegistrySettings(home=home)


@pytest.fixture
def emoji(emoji_settings: RegistrySettings) -> Registry:
    return Registry.connect(emoji_settings)
