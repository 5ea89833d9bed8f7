import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from components.contract import Kind
from components.errors import ComponentError
from registry.bundle import publish_bundle
from registry.errors import RegistryError
from registry.registry import Registry

NAMES = ("emoji.denoiser", "emoji.text_encoder", "emoji.vae_decoder", "emoji.vae_encoder")


@pytest.fixture
def folder(tmp_path: Path, write_bundle: Callable[[Path], Path]) -> Path:
    return write_bundle(tmp_path / "models" / "emoji")


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
