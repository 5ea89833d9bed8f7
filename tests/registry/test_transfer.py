import json
import shutil
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from mlflow import MlflowClient

from components.contract import Kind
from components.folder import sha256
from components.reference import ComponentRef
from registry.errors import RegistryError
from registry.registry import Registry
from registry.settings import RegistrySettings
from registry.store import open_client

pytestmark = pytest.mark.slow  # a registry of its own for every test

NAME = "emoji.vae_decoder"


@pytest.fixture
def ref(registry: Registry, decoder: Path) -> ComponentRef:
    return registry.publish(decoder, NAME)


@pytest.fixture
def stored(settings: RegistrySettings, ref: ComponentRef) -> Path:
    """The folder in which MLflow keeps the published files."""
    client: MlflowClient = open_client(settings)
    run = client.get_run(client.get_model_version(NAME, str(ref.version)).run_id)
    return Path(unquote(urlsplit(run.info.artifact_uri).path)) / "component"


def _truncate(path: Path) -> None:
    (path / "model.onnx.data").write_bytes(b"wei")


def _replace(path: Path) -> None:
    (path / "model.onnx.data").write_bytes(b"WEIGHTS")


def _empty(path: Path) -> None:
    (path / "model.onnx.data").write_bytes(b"")


def _remove(path: Path) -> None:
    (path / "model.onnx.data").unlink()


def _remove_all(path: Path) -> None:
    shutil.rmtree(path)


def _make_folder(path: Path) -> None:
    (path / "model.onnx.data").unlink()
    (path / "model.onnx.data").mkdir()
    (path / "model.onnx.data" / "x").write_bytes(b"weights")


def _make_manifest_a_folder(path: Path) -> None:
    (path / "component.json").rename(path / "moved")
    (path / "component.json").mkdir()
    (path / "component.json" / "x").write_bytes(b"")


def _leave_the_folder(path: Path) -> None:
    manifest = json.loads((path / "component.json").read_text())
    manifest["files"]["../../../../escaped"] = manifest["files"].pop("model.onnx.data")
    (path / "component.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_truncate, "model.onnx.data has 3 bytes"),
        (_empty, "model.onnx.data has 0 bytes"),
        (_replace, "content of model.onnx.data"),
        (_remove, "one of its files is not in the registry|failed with"),
        (_remove_all, "one of its files is not in the registry|failed with"),
        (_make_folder, "model.onnx.data"),
        (_make_manifest_a_folder, "component.json is not the one with the sha256"),
        (_leave_the_folder, "component.json is not the one with the sha256"),
    ],
)
def test_damage_in_the_registry_is_refused_and_leaves_nothing(
    registry: Registry,
    settings: RegistrySettings,
    ref: ComponentRef,
    stored: Path,
    damage: Callable[[Path], None],
    words: str,
) -> None:
    damage(stored)
    with pytest.raises(RegistryError, match=words) as refused:
        registry.fetch(ref)
    assert "\n" not in str(refused.value)
    assert [path for path in settings.cache.iterdir() if path.is_dir()] == []


def test_what_the_manifest_does_not_list_is_not_downloaded(registry: Registry, ref: ComponentRef, stored: Path) -> None:
    (stored / "extra.sh").write_text("rm -rf /")
    (stored / "link").symlink_to("/etc")
    path = registry.fetch(ref)
    assert sorted(file.name for file in path.iterdir()) == ["component.json", "golden", "model.onnx", "model.onnx.data"]


def test_a_pin_with_another_digest_gets_nothing(registry: Registry, ref: ComponentRef) -> None:
    with pytest.raises(RegistryError, match=f"not the one with the sha256 {'0' * 64}"):
        registry.fetch(ref.model_copy(update={"sha256": "0" * 64}))


def test_a_version_with_its_files_elsewhere_is_refused(
    registry: Registry, settings: RegistrySettings, ref: ComponentRef
) -> None:
    client: MlflowClient = open_client(settings)
    found = client.get_model_version(NAME, "1")
    client.create_model_version(NAME, source="file:///etc", run_id=found.run_id, tags=found.tags)
    with pytest.raises(RegistryError, match=rf"{NAME}/2: its files are not where Latentworks publishes them"):
        registry.fetch(ref.model_copy(update={"version": 2}))


def test_a_claimed_size_beyond_the_disk_is_refused_before_it_is_downloaded(
    registry: Registry, settings: RegistrySettings, decoder: Path, ref: ComponentRef, stored: Path
) -> None:
    """The pin fits the manifest here, as it would if its publisher lies."""
    manifest = json.loads((stored / "component.json").read_text())
    manifest["files"]["model.onnx.data"]["size"] = 10**18
    (stored / "component.json").write_text(json.dumps(manifest))
    (decoder / "component.json").write_text(json.dumps(manifest))
    lying = ref.model_copy(update={"sha256": sha256(decoder / "component.json")})
    with pytest.raises(RegistryError, match=r"needs 1000000000000000\d* bytes in the cache, \d+ are free"):
        registry.fetch(lying)
    assert [path for path in settings.cache.iterdir() if path.is_dir()] == []


def test_what_lies_beside_the_component_is_never_fetched(registry: Registry, ref: ComponentRef, stored: Path) -> None:
    """As the pages' pictures do, and the gate's."""
    for folder in ("pictures", "gate"):
        (stored.parent / folder).mkdir(exist_ok=True)
        (stored.parent / folder / "picture.png").write_bytes(b"picture")
    path = registry.fetch(ref)
    assert sorted(file.name for file in path.iterdir()) == ["component.json", "golden", "model.onnx", "model.onnx.data"]
    assert sha256(path / "component.json") == ref.sha256


def test_a_version_notes_what_of_production_it_does_not_fit(
    registry: Registry, decoder: Path, tmp_path: Path, write_component: Callable[..., Path]
) -> None:
    registry.publish(decoder, NAME)
    assert "fit.production" not in registry.version(NAME, 1).tags, "there was nothing in production"
    denoiser = write_component(tmp_path / "denoiser", Kind.DENOISER)
    registry.publish(denoiser, "emoji.denoiser")
    registry.promote("emoji.denoiser", 1)
    registry.promote(NAME, 1)
    # other bundles, and models of others, say nothing
    registry.publish(write_component(tmp_path / "sd15", id="sd15"), "emojis.vae_decoder")
    registry.promote("emojis.vae_decoder", 1)
    fitting = registry.publish(write_component(tmp_path / "fitting", content=b"fitting"), NAME)
    assert "fit.production" not in registry.version(NAME, fitting.version).tags
    other = registry.publish(write_component(tmp_path / "other", id="other"), NAME)
    assert registry.version(NAME, other.version).tags["fit.production"] == (
        "emoji.denoiser/1: latent space id: vae_decoder has other, denoiser has emoji-1; "
        "emoji.vae_decoder/1: latent space id: other in place of emoji-1"
    )
