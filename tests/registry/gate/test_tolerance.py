from pathlib import Path

import pytest

from components.contract import Kind
from components.errors import ComponentError
from registry.errors import RegistryError
from registry.gate.examine import GateSettings
from registry.gate.tolerance import set_tolerance, tolerance_of
from registry.registry import Registry

pytestmark = pytest.mark.slow  # a registry of its own for every test

NAME = "emoji.vae_decoder"
SETTINGS = GateSettings()


@pytest.fixture(autouse=True)
def _published(registry: Registry, decoder: Path) -> None:
    registry.publish(decoder, NAME)


def test_an_alias_without_one_has_its_kinds(registry: Registry) -> None:
    assert tolerance_of(registry, NAME, "production", SETTINGS) == 20.0
    assert tolerance_of(registry, NAME, "production", GateSettings(tolerances={Kind.VAE_ENCODER: 1.0})) is None


def test_every_alias_has_its_own_and_can_do_without(registry: Registry) -> None:
    set_tolerance(registry, NAME, "production", 25)
    set_tolerance(registry, NAME, "candidate", 0.5)
    assert tolerance_of(registry, NAME, "production", SETTINGS) == 25.0
    assert tolerance_of(registry, NAME, "candidate", SETTINGS) == 0.5
    with registry.asking() as client:
        assert client.get_registered_model(NAME).tags == {"tolerance.production": "25", "tolerance.candidate": "0.5"}
    for _ in range(2):
        set_tolerance(registry, NAME, "production", None)
    assert tolerance_of(registry, NAME, "production", SETTINGS) == 20.0


@pytest.mark.parametrize("decibels", [-1.0, 121.0, float("nan"), float("inf")])
def test_what_is_no_psnr_is_refused(registry: Registry, decibels: float) -> None:
    with pytest.raises(
        RegistryError, match=r"tolerance.production=\S+: must be a number of decibels between 0 and 120"
    ):
        set_tolerance(registry, NAME, "production", decibels)


@pytest.mark.parametrize("stated", ["much", "1e9", "nan", ""])
def test_a_tag_that_says_something_else_is_refused(registry: Registry, stated: str) -> None:
    with registry.asking() as client:
        client.set_registered_model_tag(NAME, "tolerance.production", stated)
    with pytest.raises(RegistryError, match=r"tolerance.production=\S+"):
        tolerance_of(registry, NAME, "production", SETTINGS)


def test_names_are_checked(registry: Registry) -> None:
    with pytest.raises(ComponentError, match="must be NAME@ALIAS"):
        set_tolerance(registry, NAME, "a/b", 1)
    with pytest.raises(RegistryError, match="emoji.denoiser is not in the registry"):
        set_tolerance(registry, "emoji.denoiser", "production", 1)
