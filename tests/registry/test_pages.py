"""What MLflow's pages show of a version, as its own client and its server's addresses give it."""

import io
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow import MlflowClient
from PIL import Image

from benchmarks.mlflow_server import MlflowServer
from components.contract import Kind
from components.folder import ComponentFolder
from components.manifest import Origin
from registry.bundle import publish_bundle
from registry.gate.examine import GateSettings, examine
from registry.pages import MAX_DESCRIPTION_CHARACTERS, description
from registry.registry import Registry
from registry.settings import RegistrySettings
from registry.store import open_client
from tests.registry.test_server import server

pytestmark = pytest.mark.slow  # a registry of its own for every test

__all__ = ["server"]

EMOJI = Path(__file__).parents[2] / "models" / "emoji"


def require_pages(settings: RegistrySettings, kind: Kind, pictured: bool) -> Any:
    client: MlflowClient = open_client(settings)
    folder = ComponentFolder.open(EMOJI / kind)
    manifest = folder.manifest
    version = client.get_model_version(f"emoji.{kind}", "1")
    run = client.get_run(version.run_id)

    assert f"**{kind}** from python -m training; licence: MIT" in version.description
    assert f"off by {manifest.parity.max_absolute_error:.3g} at most" in version.description
    assert "| model.onnx |" in version.description
    assert run.data.tags["mlflow.note.content"] in version.description
    assert run.data.tags["sha256"] == folder.digest
    assert run.data.params["origin.source"] == manifest.origin.source
    assert run.data.params["origin.licence"] == manifest.origin.licence
    assert run.data.params["exporter.torch"] == manifest.origin.exporter["torch"]
    assert run.data.params["contract.kind"] == kind
    assert run.data.metrics["parity.max_absolute_error"] == manifest.parity.max_absolute_error
    assert run.data.metrics["bytes"] == sum(record.size for record in manifest.files.values())
    if manifest.contract.latent_space is not None:
        assert "| latent\\_space.id |" in version.description or "| latent_space.id | emoji |" in version.description
        assert run.data.params["contract.latent_space.id"] == "emoji"
    paths = {artifact.path for artifact in client.list_artifacts(version.run_id)}
    assert paths >= ({"component", "pictures"} if pictured else {"component"})
    assert ("get-artifact?path=pictures%2Fgolden.png" in version.description) == pictured
    return version


def test_a_version_is_described_in_the_embedded_registry(settings: RegistrySettings, tmp_path: Path) -> None:
    registry = Registry.connect(settings)
    refs = publish_bundle(registry, EMOJI, "emoji")
    for ref in refs:
        version = require_pages(settings, Kind(ref.name.split(".")[1]), pictured=ref.name == "emoji.vae_decoder")
        # the pages change nothing about the component, nor about what is fetched
        folder = ComponentFolder.open(registry.fetch(ref))
        folder.verify()
        assert folder.digest == ref.sha256 == version.tags["sha256"]

    client: MlflowClient = open_client(settings)
    run = client.get_model_version("emoji.vae_decoder", "1").run_id
    with Image.open(client.download_artifacts(run, "pictures/golden.png", str(tmp_path))) as sheet:
        assert sheet.size == (8 * 128, 128)
        assert np.asarray(sheet).std() > 10


def test_a_picture_of_the_gate_comes_into_the_page_once(settings: RegistrySettings) -> None:
    registry = Registry.connect(settings)
    publish_bundle(registry, EMOJI, "emoji")
    candidate = registry.version("emoji.vae_decoder", 1)
    for _ in range(2):
        assert examine(registry, candidate, {}, candidate, GateSettings(), tolerance=None).passed
    client: MlflowClient = open_client(settings)
    version = client.get_model_version("emoji.vae_decoder", "1")
    assert version.description.count("get-artifact?path=gate%2Fpictures.png") == 1
    assert [file.path for file in client.list_artifacts(version.run_id, "gate")] == ["gate/pictures.png"]


def test_what_anyone_wrote_does_not_steer_the_page() -> None:
    folder = ComponentFolder.open(EMOJI / "vae_decoder")
    origin = Origin(source="a|b\n# <img src=x onerror=alert(1)> [x](http://evil)", exporter={})
    changed = ComponentFolder(folder.path, folder.manifest.model_copy(update={"origin": origin}))
    text = description(changed, "run", pictured=False)
    assert "**vae_decoder** from a\\|b \\# \\<img src=x onerror=alert(1)\\> \\[x\\](http://evil)\n" in text


def test_a_long_description_ends_at_a_line() -> None:
    folder = ComponentFolder.open(EMOJI / "vae_decoder")
    record = folder.manifest.files["model.onnx"]
    files = {f"{'x' * 200}-{number}": record for number in range(100)}
    text = description(ComponentFolder(folder.path, folder.manifest.model_copy(update={"files": files})), "run", True)
    assert MAX_DESCRIPTION_CHARACTERS - 300 < len(text) <= MAX_DESCRIPTION_CHARACTERS
    assert text.endswith(f"| {record.size:,} |\n…")


@pytest.mark.slow
def test_the_server_shows_it_and_hands_out_its_pictures(server: MlflowServer, tmp_path: Path) -> None:
    settings = RegistrySettings(home=tmp_path / "home", tracking_uri=server.url, timeout_s=60)
    registry = Registry.connect(settings)
    publish_bundle(registry, EMOJI, "emoji")
    live = {kind: registry.version(f"emoji.{kind}", 1) for kind in (Kind.TEXT_ENCODER, Kind.VAE_DECODER)}
    denoiser = registry.version("emoji.denoiser", 1)
    assert examine(registry, denoiser, live, denoiser, GateSettings(), tolerance=20.0).passed
    for kind, path in ((Kind.VAE_DECODER, "pictures/golden.png"), (Kind.DENOISER, "gate/pictures.png")):
        version = require_pages(settings, kind, pictured=kind == Kind.VAE_DECODER)
        # as a browser resolves the address in the description, from the page of the version
        shown = f"get-artifact?path={path.replace('/', '%2F')}&run_uuid={version.run_id}"
        assert f"]({shown})" in version.description
        with urllib.request.urlopen(f"{server.url}/{shown}", timeout=60) as answer:
            picture = Image.open(io.BytesIO(answer.read()))
        assert picture.size[0] >= 4 * 128
    assert registry.version("emoji.denoiser", 1).tags["gate.verdict"] == "passed"
