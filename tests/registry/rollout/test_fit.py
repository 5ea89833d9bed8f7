"""Plans that fit and that do not, in a real registry; that a version passes the gate is not asked here."""

from collections.abc import Callable
from pathlib import Path

import pytest

from registry.errors import RegistryError
from registry.registry import Registry
from registry.rollout.fit import check_plan
from registry.rollout.plans import plan_canary, plan_promotion, plan_shadow
from registry.rollout.state import Canary, Plan, Rollout, Shadow, State
from tests.registry.rollout.planning import DECODER, DENOISER, NEXT, pin, refs, wanted

pytestmark = pytest.mark.slow  # a registry of its own for every test


def test_a_promotion_that_does_not_fit_says_every_mismatch_and_writes_nothing(emoji: Registry) -> None:
    with pytest.raises(RegistryError) as refused:
        plan_promotion(emoji, [pin(emoji, DENOISER, 2), pin(emoji, DECODER, 3)])
    assert str(refused.value).split("; ") == [
        "emoji.denoiser/2 does not fit emoji.vae_decoder/3: latent space channels: denoiser has 4, vae_decoder has 16",
        "emoji.vae_decoder/3 does not fit emoji.vae_encoder/1: latent space channels: vae_decoder has 16, "
        "vae_encoder has 4",
    ]
    assert wanted(emoji) is None


def test_a_new_latent_space_goes_live_as_a_whole_or_not(emoji: Registry) -> None:
    together = [pin(emoji, name, version) for name, version in NEXT.items()]
    for left_out in range(1, 4):
        with pytest.raises(RegistryError, match="latent space id"):
            plan_promotion(emoji, [*together[:left_out], *together[left_out + 1 :]])
    assert wanted(emoji) is None
    assert plan_promotion(emoji, together).components == tuple(together)


def test_what_else_is_in_production_counts(
    emoji: Registry, write_component: Callable[..., Path], tmp_path: Path
) -> None:
    """The alias could not move beside it, so a server would follow a plan that the registry never shows."""
    tiny = emoji.publish(write_component(tmp_path / "tiny", content=b"tiny"), "emoji.vae_decoder.tiny")
    emoji.promote(tiny.name, tiny.version)
    together = [pin(emoji, name, version) for name, version in NEXT.items()]
    with pytest.raises(RegistryError) as refused:
        plan_promotion(emoji, together)
    assert str(refused.value) == (
        "emoji.denoiser/3 does not fit emoji.vae_decoder.tiny/1: latent space id: "
        "denoiser has emoji-2, vae_decoder has emoji-1; "
        "emoji.vae_encoder/2 does not fit emoji.vae_decoder.tiny/1: latent space id: "
        "vae_encoder has emoji-2, vae_decoder has emoji-1"
    )
    # with its own next version beside the others it does
    newer = write_component(tmp_path / "next tiny", content=b"tiny", id="emoji-2")
    plan = plan_promotion(emoji, [*together, emoji.publish(newer, tiny.name)])
    assert [ref.version for ref in plan.components] == [2, 3, 4, 2, 2]


def test_what_cannot_stand_beside_is_refused(emoji: Registry) -> None:
    live, wide = pin(emoji, DECODER, 1), pin(emoji, DECODER, 3)
    with pytest.raises(RegistryError, match=r"^emoji.vae_decoder/1: is live, and cannot be a canary as well$"):
        plan_canary(emoji, DECODER, Canary(ref=live, percent=5))
    with pytest.raises(RegistryError, match=r"^emoji.vae_decoder/1: is live, and cannot be a shadow as well$"):
        plan_shadow(emoji, DECODER, Shadow(ref=live, percent=5))
    plans: list[Callable[[], Plan]] = [
        lambda: plan_canary(emoji, DECODER, Canary(ref=wide, percent=5)),
        lambda: plan_shadow(emoji, DECODER, Shadow(ref=wide, percent=5)),
    ]
    for plan in plans:
        with pytest.raises(RegistryError) as refused:
            plan()
        assert [said.split(": ")[0] for said in str(refused.value).split("; ")] == [
            "emoji.vae_decoder/3 does not fit emoji.denoiser/1",
            "emoji.vae_decoder/3 does not fit emoji.vae_encoder/1",
        ]
    with pytest.raises(RegistryError, match=r"^emoji.denoiser: only a vae_decoder can be a shadow"):
        plan_shadow(emoji, DENOISER, Shadow(ref=pin(emoji, DENOISER, 2), percent=5))
    tiny = wide.model_copy(update={"name": "emoji.vae_decoder.tiny"})
    with pytest.raises(RegistryError, match=r"nothing of that name is live, which a shadow would stand beside"):
        plan_shadow(emoji, tiny.name, Shadow(ref=tiny, percent=5))
    for name in ("emoji.vae_encoder", "emoji.preview_decoder", tiny.name):
        with pytest.raises(RegistryError) as refused:
            plan_canary(emoji, name, Canary(ref=tiny.model_copy(update={"name": name}), percent=5))
        assert str(refused.value) == (
            f"{name}: only a bundle's text_encoder, denoiser, vae_decoder can be a canary, as every request runs those"
        )
    assert wanted(emoji) is None


def test_a_version_must_be_the_registrys(emoji: Registry) -> None:
    """A plan is a tag that anyone may have written."""
    other = pin(emoji, DECODER, 2).model_copy(update={"sha256": "0" * 64})
    with pytest.raises(RegistryError, match=r"^emoji.vae_decoder/2: the registry's has the sha256 \w{64}, not 0{64}$"):
        plan_promotion(emoji, [other])
    gone = other.model_copy(update={"version": 9})
    with pytest.raises(RegistryError, match=r"^emoji.vae_decoder/9 is not in the registry$"):
        check_plan(emoji, State(components=refs(emoji), shadow=Shadow(ref=gone, percent=1)))


def test_what_was_live_stays_sound_whatever_other_aliases_do(
    emoji: Registry, write_component: Callable[..., Path], tmp_path: Path
) -> None:
    """A start goes on from it, and then follows the aliases."""
    tiny = emoji.publish(write_component(tmp_path / "tiny", content=b"tiny", id="emoji-2"), "emoji.vae_decoder.tiny")
    with emoji.asking() as client:
        client.set_registered_model_alias(tiny.name, "production", str(tiny.version))
    check_plan(emoji, Rollout(components=refs(emoji), state="live"))
    with pytest.raises(RegistryError, match=r"does not fit emoji.vae_decoder.tiny/1: latent space id"):
        check_plan(emoji, State(components=refs(emoji)))
