"""The registry over HTTP, with a real `mlflow server`."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.mlflow_server import MlflowServer, mlflow_server
from components.folder import ComponentFolder
from components.reference import Selector
from registry.bundle import publish_bundle
from registry.errors import RegistryError
from registry.registry import Registry
from registry.settings import RegistrySettings

pytestmark = pytest.mark.slow


@pytest.fixture
def server(tmp_path: Path) -> Iterator[MlflowServer]:
    with mlflow_server(tmp_path / "server") as server:
        yield server


def test_everything_works_over_http_and_its_end_is_one_sentence(
    server: MlflowServer,
    tmp_path: Path,
    write_bundle: Callable[[Path], Path],
    write_component: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    here, there = (
        RegistrySettings(home=tmp_path / name, tracking_uri=server.url, timeout_s=5) for name in ("here", "there")
    )
    registry, elsewhere = Registry.connect(here), Registry.connect(there)
    bundle = write_bundle(tmp_path / "emoji")
    refs = publish_bundle(registry, bundle, "emoji")
    assert publish_bundle(elsewhere, bundle, "emoji") == refs  # another machine, with no lock in common

    decoder = Selector.parse("emoji.vae_decoder@production")
    pin = elsewhere.resolve(decoder)
    assert pin == refs[2]
    path = elsewhere.fetch(pin)
    assert path.is_relative_to(there.home)
    ComponentFolder.open(path).verify()

    registry.publish(write_component(tmp_path / "wide", channels=16), "emoji.vae_decoder")
    with pytest.raises(RegistryError, match=r"latent space channels: vae_decoder has 16, denoiser has 4"):
        registry.promote("emoji.vae_decoder", 2)
    with pytest.raises(RegistryError, match=r"has no alias 'candidate'; it has production"):
        registry.resolve(Selector.parse("emoji.vae_decoder@candidate"))
    with pytest.raises(RegistryError, match=r"emoji.vae_decoder/3 is not in the registry"):
        registry.version("emoji.vae_decoder", 3)
    assert [version.aliases for version in registry.versions("emoji.vae_decoder")] == [("production",), ()]
    assert capsys.readouterr() == ("", "")

    server.stop()
    assert elsewhere.fetch(pin) == path
    with pytest.raises(RegistryError, match=f"the registry at {server.url} cannot be reached"):
        elsewhere.resolve(decoder)
    with pytest.raises(RegistryError, match=f"the registry at {server.url} cannot be reached"):
        elsewhere.fetch(refs[0])


def test_a_file_that_the_server_lost_or_changed_is_refused(
    server: MlflowServer, tmp_path: Path, write_component: Callable[..., Path]
) -> None:
    settings = RegistrySettings(home=tmp_path / "home", tracking_uri=server.url, timeout_s=5)
    registry = Registry.connect(settings)
    ref = registry.publish(write_component(tmp_path / "vae_decoder"), "emoji.vae_decoder")
    (stored,) = (tmp_path / "server" / "artifacts").rglob("model.onnx.data")
    stored.write_bytes(b"WEIGHTS")
    with pytest.raises(RegistryError, match=r"content of model.onnx.data"):
        registry.fetch(ref)
    stored.unlink()
    with pytest.raises(RegistryError) as refused:
        registry.fetch(ref)
    assert "\n" not in str(refused.value)
    assert [path for path in settings.cache.iterdir() if path.is_dir()] == []
