"""Two versions side by side, with the bundled model and small changes of it."""

from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from components.contract import PARTS, Kind
from registry.bundle import publish_bundle
from registry.commands.main import app
from registry.diff import Difference, diff
from registry.errors import RegistryError
from registry.gate.examine import GateSettings
from registry.registry import Registry
from registry.settings import RegistrySettings
from tests.bad_components import BAD, other_weights

pytestmark = pytest.mark.slow  # children that open components

EMOJI = Path(__file__).parents[2] / "models" / "emoji"
NAME = "emoji.vae_decoder"


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, four_parts: Path) -> RegistrySettings:
    """A registry with the bundled model in production and a second version of each part of it."""
    folder = tmp_path_factory.mktemp("diff")
    settings = RegistrySettings(home=folder / "home")
    registry = Registry.connect(settings)
    publish_bundle(registry, four_parts, "emoji")
    for kind in PARTS:
        registry.publish(other_weights(EMOJI / kind, folder / kind, noise=0.001), f"emoji.{kind}")
    return settings


def between(registry: Registry, name: str, first: int, second: int, pictures: Path | None = None) -> Difference:
    versions = [registry.version(name, number) for number in (first, second)]
    return diff(registry, versions[0], versions[1], GateSettings(), pictures)


def test_a_version_does_not_differ_from_itself(registry: Registry) -> None:
    found = between(registry, NAME, 1, 1)
    assert (found.fields, found.files, found.not_interchangeable) == ({}, {}, ())
    assert found.trial.figures["psnr_min"] == found.trial.figures["psnr_mean"] == 120


@pytest.mark.parametrize(
    ("kind", "compared"),
    [
        (Kind.TEXT_ENCODER, "pictures of four prompts"),
        (Kind.DENOISER, "pictures of four prompts"),
        (Kind.VAE_DECODER, "pictures of golden latents"),
        (Kind.VAE_ENCODER, "golden outputs"),
    ],
)
def test_two_versions_are_compared_by_what_they_make(
    registry: Registry, tmp_path: Path, kind: Kind, compared: str
) -> None:
    found = between(registry, f"emoji.{kind}", 1, 2, tmp_path / "pictures.png")
    assert (found.fields, found.not_interchangeable, found.trial.reasons) == ({}, (), ())
    assert found.trial.compared == compared
    assert 30 < found.trial.figures["psnr_min"] < 100
    assert found.bytes[0] != found.bytes[1]
    assert found.files["golden-3.npz"][1] is None
    if kind == Kind.VAE_ENCODER:
        assert not (tmp_path / "pictures.png").exists(), "it draws nothing"
        return
    with Image.open(tmp_path / "pictures.png") as sheet:
        pictures = 4 if kind != Kind.VAE_DECODER else 8
        assert sheet.size == (pictures * 128, 2 * 128)


def test_contracts_are_compared_field_by_field(registry: Registry, tmp_path: Path) -> None:
    made = BAD["wrong scaling factor"].make(EMOJI / "vae_decoder", tmp_path / "vae_decoder")
    found = between(registry, NAME, 1, registry.publish(made, NAME).version)
    ours = str(registry.version(NAME, 1).contract.latent_space.scaling_factor)  # type: ignore[union-attr]
    assert found.fields == {"latent_space.scaling_factor": (ours, "0.18215")}
    assert found.not_interchangeable == (f"latent space scaling_factor: {ours} in place of 0.18215",)
    assert "psnr_min" not in found.trial.figures
    assert found.trial.notes == (f"compared with nothing: {found.not_interchangeable[0]}",)


def test_a_version_that_does_not_run_is_still_compared(registry: Registry, tmp_path: Path) -> None:
    broken = registry.publish(BAD["0 bytes"].make(EMOJI / "vae_decoder", tmp_path / "vae_decoder"), NAME)
    found = between(registry, NAME, broken.version, 1)
    assert found.files["model.onnx"][0] == 0
    assert "ONNX Runtime cannot load" in found.trial.reasons[0]


def test_two_kinds_have_nothing_to_compare(registry: Registry) -> None:
    versions = registry.version(NAME, 1), registry.version("emoji.denoiser", 1)
    with pytest.raises(RegistryError, match="emoji.vae_decoder/1 is a vae_decoder and emoji.denoiser/1 a denoiser"):
        diff(registry, *versions, GateSettings())


def test_a_version_that_gives_no_numbers_is_shown_all_the_same(
    registry: Registry, settings: RegistrySettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "emoji.vae_encoder"
    odd = registry.publish(BAD["NaN weights"].make(EMOJI / "vae_encoder", tmp_path / "odd"), name)
    monkeypatch.setenv("LATENTWORKS_HOME", str(settings.home))
    shown = CliRunner().invoke(app, ["diff", name, str(odd.version), "1"])
    assert shown.exit_code == 0, shown.exception
    assert "PSNR, golden outputs" in shown.stdout
    assert "not a number" in shown.stdout
