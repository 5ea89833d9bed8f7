"""What is in production and none of ours: it keeps nothing from being published, and everything from going live."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from components.contract import PARTS
from registry.bundle import publish_bundle, publish_for_user
from registry.errors import RegistryAwayError, RegistryError
from registry.registry import Registry
from registry.rollout.plans import plan_promotion
from registry.rollout.standing import standing
from registry.rollout.state import ROLLOUT_TAG, Rollout, written
from registry.version import Version

pytestmark = pytest.mark.slow  # a registry of its own for every test

DECODER, DENOISER = "emoji.vae_decoder", "emoji.denoiser"
SAID = "emoji.denoiser/4 was not published by Latentworks: its tag sha256 is missing"


@pytest.fixture
def stray(emoji: Registry) -> Registry:
    """Somebody has put a version of theirs into production, by hand."""
    with emoji.asking() as client:
        made = client.create_model_version(DENOISER, source="runs:/0/component")
        client.set_registered_model_alias(DENOISER, "production", str(made.version))
    return emoji


def test_it_is_told_from_what_is_ours(stray: Registry) -> None:
    found = stray.in_production("emoji")
    assert [str(version.ref) for version in found.versions] == [
        "emoji.text_encoder/1",
        "emoji.vae_decoder/1",
        "emoji.vae_encoder/1",
    ]
    assert found.unknown == (SAID,)
    with pytest.raises(RegistryError) as refused:
        found.require_all()
    assert str(refused.value) == SAID
    assert stray.in_production("emoji", [DENOISER]).unknown == ()


def test_what_is_published_beside_it_says_so(
    stray: Registry, write_component: Callable[..., Path], tmp_path: Path
) -> None:
    wide = stray.publish(write_component(tmp_path / "wide", content=b"wide", scaling_factor=2.0), DECODER)
    assert stray.version(DECODER, wide.version).tags["fit.production"] == (
        "emoji.vae_decoder/1: latent space scaling_factor: 2.0 in place of 0.5; "
        "emoji.vae_encoder/1: latent space scaling_factor: vae_decoder has 2.0, vae_encoder has 0.5; "
        f"{SAID}"
    )


def test_nothing_goes_live_beside_it_until_one_of_ours_takes_its_place(stray: Registry) -> None:
    with pytest.raises(RegistryError) as refused:
        stray.promote(DECODER, 2)
    assert str(refused.value) == SAID
    assert stray.aliases(DECODER) == {"production": 1}
    stray.promote(DENOISER, 2)
    assert stray.promote(DECODER, 2).version == 2


def test_no_plan_is_written_beside_it(stray: Registry, write_component: Callable[..., Path], tmp_path: Path) -> None:
    """Also where it is of a name that no rollout holds."""
    live = tuple(stray.version(f"emoji.{kind}", 1).ref for kind in PARTS)
    stray.set_bundle_tag("emoji", ROLLOUT_TAG, written(Rollout(components=live, state="live")))
    decoder = stray.version(DECODER, 2).ref
    assert plan_promotion(stray, [decoder]).components[1] == live[1], "the denoiser's own place is the plan's"
    tiny = stray.publish(write_component(tmp_path / "tiny", content=b"tiny"), "emoji.vae_decoder.tiny")
    with stray.asking() as client:
        client.set_registered_model_alias(tiny.name, "production", str(tiny.version))
        client.delete_model_version_tag(tiny.name, str(tiny.version), "contract")
    before = standing(stray, "emoji").pending
    with pytest.raises(RegistryError, match=rf"^{tiny} was not published by Latentworks: its tag contract is missing$"):
        plan_promotion(stray, [stray.version(DENOISER, 2).ref])
    assert standing(stray, "emoji").pending == before


@pytest.mark.parametrize("publish", [publish_bundle, publish_for_user])
def test_a_bundle_is_published_and_leaves_production_as_it_is(
    stray: Registry,
    publish: Callable[[Registry, Path, str], object],
    write_component: Callable[..., Path],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for kind in PARTS:
        write_component(tmp_path / "models" / kind, kind, b"newest")
    with caplog.at_level(logging.WARNING, "registry.bundle"):
        publish(stray, tmp_path / "models", "emoji")
    assert {name: stray.aliases(name)["production"] for name in stray.names()} == {
        **{f"emoji.{kind}": 1 for kind in PARTS},
        DENOISER: 4,
    }
    assert len(stray.versions(DENOISER)) == 4, "three before, and the folder's"
    expected = [f"production stays as it is: {SAID}"] if publish is publish_bundle else []
    assert [said.message for said in caplog.records if said.name == "registry.bundle"] == expected


def test_a_registry_that_is_away_leaves_nothing_out(emoji: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object) -> Version:
        raise RegistryAwayError("the registry cannot be reached")

    monkeypatch.setattr(emoji, "version", away)
    with pytest.raises(RegistryAwayError):
        emoji.in_production("emoji")
