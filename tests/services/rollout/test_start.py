"""A start on a real registry (MLflow on sqlite): what is live, and every reason not to start."""

import shutil
from pathlib import Path

import pytest

from components.contract import PARTS, Kind
from components.folder import ComponentFolder, write_manifest
from registry.settings import RegistrySettings
from services.errors import StartError
from services.messages import LiveModel
from services.rollout.last_good import live_model
from services.rollout.settings import RolloutSettings
from services.rollout.start import begin

pytestmark = pytest.mark.slow  # a registry of its own for every test


def settings(home: Path, folder: Path | None) -> RolloutSettings:
    return RolloutSettings(bundle="toy", folder=folder, registry=RegistrySettings(home=home))


def load(chosen: RolloutSettings) -> LiveModel:
    start, _away = begin(chosen)
    return live_model(chosen.bundle, start.rollout, start.contracts)


@pytest.fixture
def copy(toy_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(toy_bundle, tmp_path / "copy"))


def test_first_start_publishes_and_later_ones_find(toy_bundle: Path, tmp_path: Path) -> None:
    first = load(settings(tmp_path / "home", toy_bundle))
    assert {kind: (pin.name, pin.version) for kind, pin in first.pins.items()} == {
        kind: (f"toy.{kind}", 1) for kind in PARTS
    }
    assert all(pin.sha256 == ComponentFolder.open(toy_bundle / kind).digest for kind, pin in first.pins.items())
    assert first.contracts[Kind.DENOISER].latent_size == (8, 8)
    again = load(settings(tmp_path / "home", None))
    assert again.pins == first.pins


def test_a_registry_without_the_bundle(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"bundle toy: no version of toy.text_encoder, toy.denoiser"):
        load(settings(tmp_path / "home", None))


def test_a_damaged_component(copy: Path, tmp_path: Path) -> None:
    with (copy / "denoiser" / "model.onnx").open("r+b") as model:
        model.seek(2000)
        model.write(b"damage")
    with pytest.raises(StartError, match=r"bundle toy: denoiser: the content of model.onnx is not what"):
        load(settings(tmp_path / "home", copy))


def test_components_that_do_not_fit(copy: Path, tmp_path: Path) -> None:
    folder = ComponentFolder.open(copy / "vae_decoder")
    contract = folder.manifest.contract
    assert contract.latent_space is not None
    other = contract.model_copy(update={"latent_space": contract.latent_space.model_copy(update={"id": "other"})})
    write_manifest(folder.path, folder.manifest.model_copy(update={"contract": other}))
    with pytest.raises(StartError, match=r"latent space id: .* toy.*other"):
        load(settings(tmp_path / "home", copy))
