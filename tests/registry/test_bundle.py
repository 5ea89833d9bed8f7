import shutil
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from components.contract import PARTS, Kind
from components.errors import ComponentError
from components.reference import ComponentRef
from registry.bundle import publish_bundle, publish_for_user
from registry.errors import RegistryError
from registry.registry import Registry

pytestmark = pytest.mark.slow  # a registry of its own for every test

NAMES = ("emoji.denoiser", "emoji.text_encoder", "emoji.vae_decoder", "emoji.vae_encoder")
Update = Callable[..., None]
Publish = Callable[[Registry, Path, str], tuple[ComponentRef, ...]]


@pytest.fixture
def folder(tmp_path: Path, write_bundle: Callable[[Path], Path]) -> Path:
    return write_bundle(tmp_path / "models" / "emoji")


@pytest.fixture
def update(folder: Path, write_component: Callable[..., Path]) -> Update:
    """Replaces parts of the bundle folder by ones of other weights, and of another latent space where one is given."""

    def replace(content: bytes, kinds: tuple[Kind, ...] = PARTS, **space: object) -> None:
        for kind in kinds:
            shutil.rmtree(folder / kind)
            write_component(folder / kind, kind, content, **space)

    return replace


def live(registry: Registry) -> list[int]:
    return [registry.aliases(name)["production"] for name in NAMES]


def _cut_off(registry: Registry, patch: pytest.MonkeyPatch, *, at_alias: int, moved_first: bool) -> None:
    """Ends the process, as it were, just before or just after it moves an alias for the `at_alias`th time."""
    set_alias, calls = registry._client.set_registered_model_alias, count(1)

    def die(*arguments: str) -> None:
        ends = next(calls) == at_alias
        if moved_first or not ends:
            set_alias(*arguments)
        if ends:
            raise KeyboardInterrupt

    patch.setattr(registry._client, "set_registered_model_alias", die)


def test_the_first_start_puts_all_four_into_production(registry: Registry, folder: Path) -> None:
    refs = publish_bundle(registry, folder, "emoji")
    assert tuple(sorted(ref.name for ref in refs)) == registry.names() == NAMES
    assert [registry.aliases(name) for name in NAMES] == [{"production": 1}] * 4


def test_the_next_start_changes_nothing(registry: Registry, folder: Path) -> None:
    assert publish_bundle(registry, folder, "emoji") == publish_bundle(registry, folder, "emoji")
    assert [len(registry.versions(name)) for name in NAMES] == [1] * 4


def test_what_a_user_promoted_survives_a_restart(
    registry: Registry, folder: Path, tmp_path: Path, write_component: Callable[..., Path]
) -> None:
    publish_bundle(registry, folder, "emoji")
    registry.publish(write_component(tmp_path / "better", content=b"better"), "emoji.vae_decoder")
    registry.promote("emoji.vae_decoder", 2)
    publish_bundle(registry, folder, "emoji")
    assert registry.aliases("emoji.vae_decoder") == {"production": 2}


def test_a_start_that_was_cut_off_is_finished_by_the_next(registry: Registry, folder: Path) -> None:
    registry.publish(folder / "denoiser", "emoji.denoiser")  # published, and no alias yet
    publish_bundle(registry, folder, "emoji")
    assert [registry.aliases(name) for name in NAMES] == [{"production": 1}] * 4


def test_a_bundle_with_a_part_missing_publishes_nothing(registry: Registry, folder: Path) -> None:
    shutil.rmtree(folder / "vae_encoder")
    with pytest.raises(ComponentError, match=r"vae_encoder: no component.json"):
        publish_bundle(registry, folder, "emoji")
    assert registry.names() == ()


def test_a_bundle_that_does_not_fit_itself_publishes_nothing(
    registry: Registry, folder: Path, write_component: Callable[..., Path]
) -> None:
    shutil.rmtree(folder / "vae_encoder")
    write_component(folder / "vae_encoder", Kind.VAE_ENCODER, scaling_factor=0.18215)
    with pytest.raises(RegistryError, match=r"latent space scaling_factor: denoiser has 0.5, vae_encoder has 0.18215"):
        publish_bundle(registry, folder, "emoji")
    assert registry.names() == ()


def test_an_update_goes_live_as_a_whole(registry: Registry, folder: Path, update: Update) -> None:
    """In its new latent space no part fits an old one, so one by one they could not move."""
    publish_bundle(registry, folder, "emoji")
    for version, content in [(2, b"newer"), (3, b"newest")]:
        update(content, id=f"emoji-{version}")
        assert [ref.version for ref in publish_bundle(registry, folder, "emoji")] == [version] * 4
        assert live(registry) == [version] * 4


def test_an_update_of_one_part_leaves_the_others(registry: Registry, folder: Path, update: Update) -> None:
    publish_bundle(registry, folder, "emoji")
    update(b"newer", (Kind.DENOISER,))
    publish_bundle(registry, folder, "emoji")
    update(b"newest", (Kind.DENOISER, Kind.VAE_DECODER))
    publish_bundle(registry, folder, "emoji")
    assert live(registry) == [3, 1, 2, 1]


def test_an_update_moves_nothing_beside_what_a_user_promoted(
    registry: Registry,
    folder: Path,
    update: Update,
    tmp_path: Path,
    write_component: Callable[..., Path],
    caplog: pytest.LogCaptureFixture,
) -> None:
    publish_bundle(registry, folder, "emoji")
    registry.publish(write_component(tmp_path / "better", content=b"better"), "emoji.vae_decoder")
    registry.promote("emoji.vae_decoder", 2)
    publish_bundle(registry, folder, "emoji")
    assert caplog.messages == [], "the folder holds nothing newer"
    update(b"newer")
    publish_bundle(registry, folder, "emoji")
    assert live(registry) == [1, 1, 2, 1]
    assert [registry.versions(name)[-1].ref.version for name in NAMES] == [2, 2, 3, 2]
    (message,) = caplog.messages
    assert message == (
        "production stays as it is, since no start chose emoji.vae_decoder/2: "
        "emoji.text_encoder/1 where the folder's is emoji.text_encoder/2, "
        "emoji.denoiser/1 where the folder's is emoji.denoiser/2, "
        "emoji.vae_decoder/2 where the folder's is emoji.vae_decoder/3, "
        "emoji.vae_encoder/1 where the folder's is emoji.vae_encoder/2"
    )


@pytest.mark.parametrize("version", [1, 2])
def test_what_a_start_promoted_is_a_users_once_he_promotes_it(
    registry: Registry, folder: Path, update: Update, version: int
) -> None:
    """Also where the alias does not move by it, and where a start was there before (a rollback)."""
    publish_bundle(registry, folder, "emoji")
    update(b"newer")
    publish_bundle(registry, folder, "emoji")
    registry.promote("emoji.denoiser", version)
    update(b"newest")
    publish_bundle(registry, folder, "emoji")
    assert live(registry) == [version, 2, 2, 2]


def test_what_a_user_does_with_another_alias_says_nothing_of_production(
    registry: Registry, folder: Path, update: Update
) -> None:
    publish_bundle(registry, folder, "emoji")
    registry.promote("emoji.denoiser", 1, "candidate")
    update(b"newer")
    publish_bundle(registry, folder, "emoji")
    assert live(registry) == [2] * 4
    assert registry.aliases("emoji.denoiser") == {"candidate": 1, "production": 2}
    marked = [version.tags.get("promoted_by_start") for version in registry.versions("emoji.denoiser")]
    assert marked == [None, "production"]


def test_an_older_folder_moves_nothing_back(
    registry: Registry, folder: Path, update: Update, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    old = shutil.copytree(folder, tmp_path / "old")
    publish_bundle(registry, folder, "emoji")
    update(b"newer", (Kind.VAE_ENCODER,))
    publish_bundle(registry, folder, "emoji")
    publish_bundle(registry, old, "emoji")
    assert live(registry) == [1, 1, 1, 2]
    assert caplog.messages == [
        "production stays as it is, since emoji.vae_encoder/2 came after the folder's: "
        "emoji.vae_encoder/2 where the folder's is emoji.vae_encoder/1"
    ]


@pytest.mark.parametrize(("moved_first", "left"), [(False, [2, 2, 1, 1]), (True, [2, 2, 2, 1])])
def test_an_update_that_was_cut_off_is_finished_by_the_next_start(
    registry: Registry,
    folder: Path,
    update: Update,
    monkeypatch: pytest.MonkeyPatch,
    moved_first: bool,
    left: list[int],
) -> None:
    publish_bundle(registry, folder, "emoji")
    update(b"newer")
    with monkeypatch.context() as patch:
        _cut_off(registry, patch, at_alias=3, moved_first=moved_first)
        with pytest.raises(KeyboardInterrupt):
            publish_bundle(registry, folder, "emoji")
    assert sorted(live(registry)) == sorted(left)
    publish_bundle(registry, folder, "emoji")
    assert live(registry) == [2] * 4


def test_a_users_promotion_that_was_cut_off_is_still_his(
    registry: Registry, folder: Path, update: Update, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_bundle(registry, folder, "emoji")
    with monkeypatch.context() as patch:
        _cut_off(registry, patch, at_alias=1, moved_first=True)
        with pytest.raises(KeyboardInterrupt):
            registry.promote("emoji.denoiser", 1)
    update(b"newer")
    publish_bundle(registry, folder, "emoji")
    assert live(registry) == [1] * 4


def test_an_update_that_does_not_fit_another_live_component_moves_nothing(
    registry: Registry, folder: Path, update: Update, write_component: Callable[..., Path], tmp_path: Path
) -> None:
    publish_bundle(registry, folder, "emoji")
    registry.publish(write_component(tmp_path / "tiny", content=b"tiny"), "emoji.vae_decoder.tiny")
    registry.promote("emoji.vae_decoder.tiny", 1)
    update(b"newer", id="emoji-2")
    with pytest.raises(RegistryError, match=r"emoji.denoiser/2 does not fit emoji.vae_decoder.tiny/1: latent space id"):
        publish_bundle(registry, folder, "emoji")
    assert live(registry) == [1] * 4


def test_what_a_user_published_is_moved_by_no_start(registry: Registry, folder: Path, update: Update) -> None:
    publish_for_user(registry, folder, "emoji")
    assert live(registry) == [1] * 4
    update(b"newer")
    assert [ref.version for ref in publish_bundle(registry, folder, "emoji")] == [2] * 4
    assert live(registry) == [1] * 4


def test_a_user_who_publishes_moves_nothing(registry: Registry, folder: Path, update: Update) -> None:
    publish_bundle(registry, folder, "emoji")
    update(b"newer")
    publish_for_user(registry, folder, "emoji")
    assert live(registry) == [1] * 4
    publish_bundle(registry, folder, "emoji")
    assert live(registry) == [2] * 4, "the folder of a start, whoever published it first"


def test_a_user_publishes_a_whole_bundle_or_puts_none_of_it_into_production(
    registry: Registry, folder: Path, tmp_path: Path, write_component: Callable[..., Path]
) -> None:
    other = write_component(tmp_path / "other", Kind.VAE_DECODER, b"other", id="another space")
    registry.promote("emoji.vae_decoder", registry.publish(other, "emoji.vae_decoder").version)
    with pytest.raises(RegistryError, match="latent space id"):
        publish_for_user(registry, folder, "emoji")
    assert [name for name in NAMES if "production" in registry.aliases(name)] == ["emoji.vae_decoder"]


def test_a_second_of_a_kind_is_a_candidate(
    registry: Registry, folder: Path, write_component: Callable[..., Path]
) -> None:
    write_component(folder / "vae_decoder_sharp", content=b"sharp")
    write_component(folder / "vae_decoder_tiny", content=b"tiny", id="another space")  # a candidate need not fit
    (folder / "checkpoint").mkdir()
    (folder / "README.md").write_text("no component")
    refs = publish_bundle(registry, folder, "emoji")
    assert tuple(sorted(ref.name for ref in refs)) == registry.names() == NAMES
    assert live(registry) == [1] * 4
    assert registry.aliases("emoji.vae_decoder") == {"production": 1, "candidate": 2}
    assert [version.ref.version for version in registry.versions("emoji.vae_decoder")] == [1, 2, 3]

    # whatever a user does with it stays
    registry.promote("emoji.vae_decoder", 3, "candidate")
    assert publish_bundle(registry, folder, "emoji") == publish_for_user(registry, folder, "emoji") == refs
    assert registry.aliases("emoji.vae_decoder") == {"production": 1, "candidate": 3}


def test_a_candidate_does_not_keep_an_update_away(
    registry: Registry, folder: Path, update: Update, write_component: Callable[..., Path]
) -> None:
    """It is a newer version than the one that serves, though no newer choice."""
    write_component(folder / "sharp", content=b"sharp")
    publish_bundle(registry, folder, "emoji")
    update(b"newer", id="emoji-2")
    publish_bundle(registry, folder, "emoji")
    assert live(registry) == [2, 2, 3, 2]
    assert registry.aliases("emoji.vae_decoder")["candidate"] == 2


@pytest.mark.parametrize("publish", [publish_bundle, publish_for_user])
def test_a_further_kind_serves_beside_the_four(
    registry: Registry, folder: Path, write_component: Callable[..., Path], publish: Publish
) -> None:
    write_component(folder / "previews", Kind.PREVIEW_DECODER)
    write_component(folder / "previews-2", Kind.PREVIEW_DECODER, b"other")
    refs = publish(registry, folder, "emoji")
    assert [ref.name for ref in refs] == [f"emoji.{kind}" for kind in PARTS]
    assert registry.aliases("emoji.preview_decoder") == {"production": 1, "candidate": 2}


@pytest.mark.parametrize("publish", [publish_bundle, publish_for_user])
def test_every_controlnet_and_adapter_serves_under_its_own_name(
    registry: Registry, folder: Path, write_component: Callable[..., Path], publish: Publish
) -> None:
    for name in ("edges", "depth"):
        write_component(folder / f"controlnet-{name}", Kind.CONTROLNET, name.encode())
    write_component(folder / "adapter-edges", Kind.ADAPTER)
    refs = publish(registry, folder, "emoji")
    assert [ref.name for ref in refs] == [f"emoji.{kind}" for kind in PARTS]
    for name in ("emoji.controlnet.depth", "emoji.controlnet.edges", "emoji.adapter.edges"):
        assert registry.aliases(name) == {"production": 1}


def test_a_further_kind_moves_with_the_four(
    registry: Registry, folder: Path, update: Update, write_component: Callable[..., Path]
) -> None:
    """In the new latent space none of the five fits one that stays."""
    write_component(folder / "preview_decoder", Kind.PREVIEW_DECODER)
    publish_bundle(registry, folder, "emoji")
    update(b"newer", (*PARTS, Kind.PREVIEW_DECODER), id="emoji-2")
    publish_bundle(registry, folder, "emoji")
    assert live(registry) == [2] * 4
    assert registry.aliases("emoji.preview_decoder") == {"production": 2}


def test_a_further_kind_that_came_later_joins_the_four(
    registry: Registry, folder: Path, write_component: Callable[..., Path]
) -> None:
    publish_bundle(registry, folder, "emoji")
    registry.promote("emoji.denoiser", 1)
    write_component(folder / "preview_decoder", Kind.PREVIEW_DECODER)
    publish_bundle(registry, folder, "emoji")
    assert registry.aliases("emoji.preview_decoder") == {"production": 1}


@pytest.mark.parametrize("damage", ["another space", "another kind", "no manifest", "a damaged candidate"])
def test_a_bundle_with_a_bad_folder_publishes_nothing(
    registry: Registry, folder: Path, write_component: Callable[..., Path], damage: str
) -> None:
    """Of those that serve; a candidate only has to be whole."""
    if damage == "another space":
        write_component(folder / "preview_decoder", Kind.PREVIEW_DECODER, id="emoji-2")
        words = "preview_decoder has emoji-2"
    elif damage == "another kind":
        shutil.rmtree(folder / "vae_encoder")
        write_component(folder / "vae_encoder", Kind.VAE_DECODER)
        words = "emoji: its folder vae_encoder holds a vae_decoder"
    elif damage == "no manifest":
        shutil.rmtree(folder)
        words = "text_encoder: no component.json"
    else:
        write_component(folder / "sharp", content=b"sharp")
        (folder / "sharp" / "model.onnx.data").unlink()
        words = "sharp: model.onnx.data is missing"
    with pytest.raises((ComponentError, RegistryError), match=words):
        publish_bundle(registry, folder, "emoji")
    assert registry.names() == ()
