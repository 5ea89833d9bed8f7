from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from mlflow import MlflowClient

from components.contract import Kind
from components.errors import ComponentError
from components.folder import ComponentFolder
from components.reference import ComponentRef, Selector
from registry.bundle import publish_bundle
from registry.errors import NoSuchVersionError, RegistryError
from registry.local.lock import locked
from registry.registry import Registry
from registry.settings import RegistrySettings
from registry.store import open_client
from registry.transfer import upload

NAME = "emoji.vae_decoder"
WriteComponent = Callable[..., Path]


@pytest.fixture
def other(tmp_path: Path, write_component: WriteComponent) -> Path:
    return write_component(tmp_path / "other", content=b"other weights")


def test_a_published_component_comes_back_as_it_was(registry: Registry, decoder: Path) -> None:
    ref = registry.publish(decoder, NAME)
    assert ref == ComponentRef(name=NAME, version=1, sha256=ComponentFolder.open(decoder).digest)
    path = registry.fetch(ref)
    for file in decoder.rglob("*"):
        if file.is_file():
            assert (path / file.relative_to(decoder)).read_bytes() == file.read_bytes()


def test_the_same_component_is_one_version(registry: Registry, decoder: Path, other: Path) -> None:
    first = registry.publish(decoder, NAME)
    second = registry.publish(other, NAME)
    assert (first.version, second.version) == (1, 2)
    assert registry.publish(decoder, NAME) == first
    assert [version.ref for version in registry.versions(NAME)] == [first, second]


def test_another_machine_that_was_faster_wins(
    registry: Registry, settings: RegistrySettings, decoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No lock spans two machines, so both may find nothing and both upload; the earlier version must remain."""
    first = registry.publish(decoder, NAME)
    slower = Registry.connect(settings)
    monkeypatch.setattr("registry.registry.published", lambda *_: None)
    assert slower.publish(decoder, NAME) == first
    assert [version.ref for version in slower.versions(NAME)] == [first]


def test_a_damaged_folder_is_not_published(registry: Registry, decoder: Path) -> None:
    (decoder / "model.onnx.data").write_bytes(b"WEIGHTS")
    with pytest.raises(ComponentError, match=r"content of model.onnx.data"):
        registry.publish(decoder, NAME)
    assert registry.names() == ()


def test_the_name_must_say_the_kind(registry: Registry, decoder: Path) -> None:
    with pytest.raises(RegistryError, match=r"names a denoiser, and vae_decoder is a vae_decoder"):
        registry.publish(decoder, "emoji.denoiser")
    with pytest.raises(ComponentError, match="must be <bundle>"):
        registry.publish(decoder, "emoji' OR 1=1")


def test_selectors_become_pins(registry: Registry, decoder: Path, other: Path) -> None:
    first, second = registry.publish(decoder, NAME), registry.publish(other, NAME)
    assert registry.resolve(Selector.parse(f"{NAME}/2")) == second
    assert registry.promote(NAME, 1, "candidate") == first
    assert registry.resolve(Selector.parse(f"{NAME}@candidate")) == first
    registry.promote(NAME, 2, "candidate")
    assert registry.resolve(Selector.parse(f"{NAME}@candidate")) == second
    assert [version.aliases for version in registry.versions(NAME)] == [(), ("candidate",)]
    assert registry.version(NAME, 2).aliases == ("candidate",)


@pytest.mark.parametrize(
    ("selector", "words"),
    [
        (f"{NAME}@nope", rf"{NAME} has no alias 'nope'; it has candidate"),
        (f"{NAME}/9", rf"{NAME}/9 is not in the registry"),
        ("emoji.denoiser@production", r"emoji.denoiser is not in the registry"),
        ("emoji.denoiser/1", r"emoji.denoiser/1 is not in the registry"),
    ],
)
def test_what_is_not_there_is_said(registry: Registry, decoder: Path, selector: str, words: str) -> None:
    registry.publish(decoder, NAME)
    registry.promote(NAME, 1, "candidate")
    with pytest.raises(NoSuchVersionError, match=words):
        registry.resolve(Selector.parse(selector))


@pytest.mark.parametrize("version", [0, -1, 2, 2**31, 2**70])
def test_only_a_version_that_exists_is_promoted(registry: Registry, decoder: Path, version: int) -> None:
    registry.publish(decoder, NAME)
    with pytest.raises(RegistryError, match=f"{NAME}/{version} is not in the registry"):
        registry.promote(NAME, version)
    assert registry.aliases(NAME) == {}


@pytest.mark.parametrize("alias", ["latest", "v3"])
def test_an_alias_that_mlflow_keeps_for_itself_is_one_sentence(registry: Registry, decoder: Path, alias: str) -> None:
    registry.publish(decoder, NAME)
    with pytest.raises(RegistryError, match="reserved"):
        registry.promote(NAME, 1, alias)


def test_production_takes_only_what_fits_the_rest_of_its_bundle(
    registry: Registry, tmp_path: Path, write_component: WriteComponent, decoder: Path
) -> None:
    wide = write_component(tmp_path / "wide", channels=16, id="emoji-2")
    denoiser = write_component(tmp_path / "denoiser", Kind.DENOISER)
    for path, name in [(decoder, NAME), (wide, NAME), (denoiser, "emoji.denoiser"), (wide, "sd15.vae_decoder")]:
        registry.publish(path, name)
    registry.promote("emoji.denoiser", 1)
    registry.promote(NAME, 1)
    with pytest.raises(RegistryError) as refused:
        registry.promote(NAME, 2)
    assert str(refused.value) == (
        "emoji.vae_decoder/2 does not fit "
        "emoji.denoiser/1: latent space id: vae_decoder has emoji-2, denoiser has emoji-1; "
        "emoji.denoiser/1: latent space channels: vae_decoder has 16, denoiser has 4"
    )
    assert registry.aliases(NAME) == {"production": 1}
    assert registry.promote(NAME, 2, "candidate").version == 2  # nothing serves a candidate by itself
    assert registry.promote("sd15.vae_decoder", 1).version == 1  # another bundle


def test_other_models_in_the_same_mlflow_do_not_disturb(
    registry: Registry, settings: RegistrySettings, decoder: Path
) -> None:
    client: MlflowClient = open_client(settings)
    client.create_registered_model("churn-forecast")
    client.create_registered_model("emoji.upscaler")
    registry.publish(decoder, NAME)
    registry.promote(NAME, 1)
    assert registry.names() == (NAME,)
    with pytest.raises(ComponentError, match="must be <bundle>"):
        registry.versions("churn-forecast")


def test_a_cached_component_needs_no_registry(registry: Registry, decoder: Path, settings: RegistrySettings) -> None:
    ref = registry.publish(decoder, NAME)
    path = registry.fetch(ref)
    (settings.home / "artifacts").rename(settings.home / "gone")
    assert registry.fetch(ref) == path


def test_more_versions_than_a_page_are_all_found(
    registry: Registry, tmp_path: Path, write_component: WriteComponent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("registry.store.PAGE", 2)
    for index in range(5):
        registry.publish(write_component(tmp_path / str(index), content=bytes([index])), NAME)
    assert [version.ref.version for version in registry.versions(NAME)] == [1, 2, 3, 4, 5]


def test_nothing_is_written_outside_the_home(
    registry: Registry, decoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    registry.fetch(registry.publish(decoder, NAME))
    assert list(Path().iterdir()) == []


def test_a_survey_tells_of_one_bundle(registry: Registry, settings: RegistrySettings, decoder: Path) -> None:
    for name in (NAME, "emoji.vae_decoder.tiny", "emojis.vae_decoder", "my-emoji.vae_decoder"):
        registry.publish(decoder, name)
    client: MlflowClient = open_client(settings)
    client.create_registered_model("emoji.upscaler")  # is no component
    assert registry.survey("emoji") == ({}, {NAME: {}, "emoji.vae_decoder.tiny": {}})
    registry.promote(NAME, 1)
    registry.promote(NAME, 1, "candidate")
    registry.set_bundle_tag("emoji", "key", "value")
    registry.set_bundle_tag("emoji", "key", "another")
    assert registry.survey("emoji") == (
        {"key": "another"},
        {NAME: {"production": 1, "candidate": 1}, "emoji.vae_decoder.tiny": {}},
    )
    assert registry.survey("emo") == ({}, {})
    assert "emoji" not in registry.names()
    with pytest.raises(ComponentError, match="must be <bundle>"):
        registry.survey("' OR name LIKE '%")


def test_a_claim_takes_what_a_start_chose(
    registry: Registry, tmp_path: Path, write_bundle: Callable[[Path], Path]
) -> None:
    refs = publish_bundle(registry, write_bundle(tmp_path / "emoji"), "emoji")
    moved = refs[1].model_copy(update={"version": 2})
    registry.claim([refs[0], moved])
    marked = ["promoted_by_start" in registry.version(ref.name, 1).tags for ref in refs]
    assert marked == [False, True, True, True]
    assert registry.aliases(refs[1].name) == {"production": 1}, "a claim moves nothing"


def test_an_experiment_is_made_once(registry: Registry, settings: RegistrySettings) -> None:
    assert registry.experiment("mine") == registry.experiment("mine") != registry.experiment("another")
    client: MlflowClient = open_client(settings)
    assert client.get_experiment(registry.experiment("mine")).artifact_location.startswith(settings.artifacts.as_uri())


@pytest.mark.parametrize("whole", [False, True])
def test_an_upload_holds_up_nobody_who_moves_an_alias(
    registry: Registry,
    settings: RegistrySettings,
    write_bundle: Callable[[Path], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    whole: bool,
) -> None:
    bundle = write_bundle(tmp_path / "emoji")
    moved: list[str] = []

    def move() -> None:
        # in a thread of its own, as the same thread never waits for itself
        with locked(settings.locks / "publish.lock", wait_s=0):
            moved.append("moved")

    def slow(*given: Any) -> ComponentRef:
        thread = Thread(target=move)
        thread.start()
        thread.join()
        return upload(*given)

    monkeypatch.setattr("registry.registry.upload", slow)
    if whole:
        publish_bundle(registry, bundle, "emoji")
    else:
        registry.publish(bundle / "vae_decoder", NAME)
    assert len(moved) == (4 if whole else 1)
