"""Plans in a real registry; that a version passes the gate is not asked here."""

from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest

from components.contract import PARTS, Kind
from components.reference import ComponentRef
from registry.errors import RegistryAwayError, RegistryError
from registry.registry import Registry, Survey
from registry.rollout.outcome import followed, outcome, settle
from registry.rollout.plans import plan_canary, plan_promotion, plan_rollback, plan_shadow
from registry.rollout.standing import in_production, standing
from registry.rollout.state import ROLLOUT_TAG, Canary, Rollout, Shadow, State, read, written
from tests.registry.rollout.planning import DECODER, DENOISER, LONG, NEXT, pin, refs, take_up, wanted

pytestmark = pytest.mark.slow  # a registry of its own for every test


def test_a_promotion_is_written_and_moves_nothing(emoji: Registry) -> None:
    plan = plan_promotion(emoji, [pin(emoji, DENOISER, 2), pin(emoji, DECODER, 2)])
    assert plan.components == refs(emoji, denoiser=2, vae_decoder=2)
    assert wanted(emoji) == plan
    assert emoji.aliases(DECODER) == {"production": 1}
    now = standing(emoji, "emoji")
    assert (now.live, now.pending) == (State(components=refs(emoji)), plan)


def test_a_bundle_of_which_nothing_is_live_yet_goes_live_whole(
    registry: Registry, write_bundle: Callable[[Path], Path], tmp_path: Path
) -> None:
    folder = write_bundle(tmp_path / "emoji")
    published = [registry.publish(folder / kind, f"emoji.{kind}") for kind in PARTS]
    with pytest.raises(
        RegistryError, match=r"^bundle emoji: no version of emoji.text_encoder, emoji.vae_encoder is in production$"
    ):
        plan_promotion(registry, published[1:3])
    plan = plan_promotion(registry, published)
    rollout = settle(registry, "emoji", plan)
    assert rollout is not None
    assert in_production(registry, "emoji", registry.survey("emoji")) == rollout.components == tuple(published)
    with pytest.raises(RegistryError, match="bundle emoji: nothing was live before what is live now"):
        plan_rollback(registry, "emoji")


@pytest.mark.parametrize("taken_up", [False, True])
def test_a_plan_that_is_not_done_is_what_the_next_one_changes(emoji: Registry, taken_up: bool) -> None:
    first = plan_promotion(emoji, [pin(emoji, DENOISER, 2)])
    if taken_up:
        take_up(emoji, first)
    second = plan_promotion(emoji, [pin(emoji, DECODER, 2)])
    assert second.components == refs(emoji, denoiser=2, vae_decoder=2)
    if taken_up:
        take_up(emoji, second)
        with pytest.raises(RegistryError, match="bundle emoji: another change took the place of this one"):
            outcome(emoji, "emoji", first, LONG, LONG)
    else:
        with pytest.raises(RegistryError, match="bundle emoji: another change took the place of this one"):
            settle(emoji, "emoji", first)


def test_a_canary_and_a_shadow_stand_beside_what_is_live(emoji: Registry) -> None:
    canary = Canary(ref=pin(emoji, DENOISER, 2), percent=5)
    shadow = Shadow(ref=pin(emoji, DECODER, 2), percent=10)
    assert plan_canary(emoji, DENOISER, canary).canary == canary
    plan = plan_shadow(emoji, DECODER, shadow)
    assert (plan.components, plan.canary, plan.shadow) == (refs(emoji), canary, shadow)
    with pytest.raises(RegistryError, match=r"^emoji.vae_decoder: is no canary; that is emoji.denoiser/2$"):
        plan_canary(emoji, DECODER, None)
    plan = plan_canary(emoji, DENOISER, None)
    assert (plan.canary, plan.shadow) == (None, shadow)
    with pytest.raises(RegistryError, match=r"^emoji.denoiser: is no canary; there is none$"):
        plan_canary(emoji, DENOISER, None)
    assert plan_shadow(emoji, DECODER, None).shadow is None
    with pytest.raises(RegistryError, match=r"^emoji.vae_decoder: is no shadow; there is none$"):
        plan_shadow(emoji, DECODER, None)


def test_a_promotion_ends_what_it_takes_the_place_of(emoji: Registry) -> None:
    canary = Canary(ref=pin(emoji, DECODER, 2), percent=5)
    shadow = Shadow(ref=pin(emoji, DECODER, 2), percent=10)
    plan_canary(emoji, DECODER, canary)
    plan_shadow(emoji, DECODER, shadow)
    plan = plan_promotion(emoji, [pin(emoji, DENOISER, 2)])
    assert (plan.canary, plan.shadow) == (canary, shadow), "they are of another name"
    plan = plan_promotion(emoji, [pin(emoji, DECODER, 2)])
    assert (plan.canary, plan.shadow) == (None, None), "what was tried is live"


def test_a_promotion_is_rolled_back_and_back_again(emoji: Registry) -> None:
    settle(emoji, "emoji", plan_promotion(emoji, [pin(emoji, DECODER, 2)]))
    settle(emoji, "emoji", plan_promotion(emoji, [pin(emoji, DENOISER, 2)]))
    for version in (1, 2, 1):
        plan = plan_rollback(emoji, "emoji")
        assert plan.components == refs(emoji, vae_decoder=2, denoiser=version)
        rollout = settle(emoji, "emoji", plan)
        assert rollout is not None
        assert emoji.aliases(DENOISER)["production"] == version
        assert {str(ref) for ref in rollout.former} == {"emoji.vae_decoder/1", f"emoji.denoiser/{3 - version}"}


def test_of_a_canary_only_that_is_rolled_back(emoji: Registry) -> None:
    settle(emoji, "emoji", plan_promotion(emoji, [pin(emoji, DENOISER, 2)]))
    settle(emoji, "emoji", plan_canary(emoji, DECODER, Canary(ref=pin(emoji, DECODER, 2), percent=5)))
    plan = plan_rollback(emoji, "emoji")
    assert (plan.components, plan.canary) == (refs(emoji, denoiser=2), None)
    settle(emoji, "emoji", plan)
    assert plan_rollback(emoji, "emoji").components == refs(emoji)


@pytest.mark.parametrize("taken_up", [False, True])
@pytest.mark.parametrize("before", [False, True])
def test_what_is_not_done_yet_is_given_up_by_a_rollback(emoji: Registry, taken_up: bool, before: bool) -> None:
    """And nothing before it."""
    if before:
        settle(emoji, "emoji", plan_promotion(emoji, [pin(emoji, DENOISER, 2)]))
    plan = plan_promotion(emoji, [pin(emoji, DECODER, 2)])
    if taken_up:
        take_up(emoji, plan)
    assert plan_rollback(emoji, "emoji").components == refs(emoji, denoiser=2 if before else 1)


@pytest.mark.parametrize(("version", "stays"), [(2, True), (3, False)])
def test_a_shadow_does_not_keep_a_rollback_away(emoji: Registry, version: int, stays: bool) -> None:
    """It fits what is live, but not always what was live before."""
    together = [pin(emoji, name, version) for name, version in NEXT.items()]
    settle(emoji, "emoji", plan_promotion(emoji, together))
    rollout = read(Rollout, emoji.survey("emoji").tags[ROLLOUT_TAG])
    assert rollout is not None
    shadow = Shadow(ref=pin(emoji, DECODER, version), percent=5)
    emoji.set_bundle_tag("emoji", ROLLOUT_TAG, written(rollout.model_copy(update={"shadow": shadow})))
    plan = plan_rollback(emoji, "emoji")
    assert (plan.components, plan.shadow) == (refs(emoji), shadow if stays else None)


def test_there_may_be_nothing_to_go_back_to(emoji: Registry) -> None:
    with pytest.raises(RegistryError, match=r"^bundle emoji: nothing was live before what is live now$"):
        plan_rollback(emoji, "emoji")
    settle(emoji, "emoji", plan_promotion(emoji, [pin(emoji, DECODER, 1)]))
    with pytest.raises(RegistryError, match=r"^bundle emoji: nothing was live before what is live now$"):
        plan_rollback(emoji, "emoji")  # what was live is promoted again: that changed nothing


def test_a_plan_whose_record_no_tag_could_hold_is_not_written(emoji: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """The record names what was live before besides, so it is the longer of the two."""
    monkeypatch.setattr("registry.rollout.state.MAX_RECORD_CHARACTERS", 900)
    with pytest.raises(RegistryError, match=r"record of 4 components has 1\d\d\d characters; a tag .* takes 900"):
        plan_promotion(emoji, [pin(emoji, DECODER, 2)])
    assert wanted(emoji) is None


def test_the_tags_make_no_component(emoji: Registry) -> None:
    names = emoji.names()
    plan_promotion(emoji, [pin(emoji, DECODER, 2)])
    assert emoji.names() == names
    assert set(emoji.survey("emoji").aliases) == set(names)


def test_a_registry_that_is_away_is_not_a_refusal(emoji: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even where a rollback looks whether a shadow fits."""
    settle(emoji, "emoji", plan_promotion(emoji, [pin(emoji, DENOISER, 2)]))
    settle(emoji, "emoji", plan_shadow(emoji, DECODER, Shadow(ref=pin(emoji, DECODER, 2), percent=5)))

    def away(*_: object) -> None:
        raise RegistryAwayError("the registry cannot be reached")

    monkeypatch.setattr("registry.rollout.plans.check_plan", away)
    with pytest.raises(RegistryAwayError):
        plan_rollback(emoji, "emoji")


def test_plans_have_names_of_their_own(emoji: Registry) -> None:
    promote = [pin(emoji, DECODER, 2)]
    assert plan_promotion(emoji, promote).id != plan_promotion(emoji, promote).id
    assert len(uuid4().hex) == len(plan_promotion(emoji, promote).id)


@pytest.fixture
def previews(emoji: Registry, write_component: Callable[..., Path], tmp_path: Path) -> list[ComponentRef]:
    """A preview decoder in production, of which no rollout knows, and one of the next latent space."""
    found = [
        emoji.publish(write_component(tmp_path / space, Kind.PREVIEW_DECODER, id=space), "emoji.preview_decoder")
        for space in ("emoji-1", "emoji-2")
    ]
    emoji.promote(found[0].name, found[0].version)
    return found


@pytest.mark.parametrize("recorded", [False, True])
def test_a_name_that_no_rollout_knew_is_rolled_back_too(
    emoji: Registry, previews: list[ComponentRef], recorded: bool
) -> None:
    """Or the others could not go back beside it."""
    if recorded:
        settle(emoji, "emoji", plan_promotion(emoji, [pin(emoji, DENOISER, 2)]))
    denoiser = 2 if recorded else 1
    together = [*(pin(emoji, name, version) for name, version in NEXT.items()), previews[1]]
    plan = plan_promotion(emoji, together)
    assert plan.replaced == (previews[0],)
    forth = settle(emoji, "emoji", plan)
    assert forth is not None
    assert forth.previous == (*refs(emoji, denoiser=denoiser), previews[0])
    assert previews[0] in forth.former
    for name, expected in (("back", forth.previous), ("forth again", tuple(together)), ("back", forth.previous)):
        plan = plan_rollback(emoji, "emoji")
        assert plan.components == expected, name
        rollout = settle(emoji, "emoji", plan)
        assert rollout is not None
        assert rollout.components == expected
        assert emoji.aliases(previews[0].name)["production"] == expected[-1].version


def test_a_name_that_comes_in_with_a_plan_that_waits_is_rolled_back_too(
    emoji: Registry, previews: list[ComponentRef]
) -> None:
    plan_promotion(emoji, [*(pin(emoji, name, version) for name, version in NEXT.items()), previews[1]])
    plan = plan_promotion(emoji, [pin(emoji, "emoji.text_encoder", 1)])
    assert plan.replaced == (previews[0],)
    assert followed(Rollout(components=refs(emoji), state="live"), plan).previous == (*refs(emoji), previews[0])


@pytest.mark.parametrize("recorded", [False, True])
def test_a_plan_is_written_after_one_look_at_the_bundle(
    emoji: Registry, previews: list[ComponentRef], monkeypatch: pytest.MonkeyPatch, recorded: bool
) -> None:
    """Nobody but us holds the lock: what was read at different times need not go together."""
    if recorded:
        settle(emoji, "emoji", plan_promotion(emoji, [pin(emoji, DENOISER, 2)]))
    together = [*(pin(emoji, name, version) for name, version in NEXT.items()), previews[1]]
    shadow = Shadow(ref=pin(emoji, DECODER, 4), percent=5)
    surveys: list[str] = []
    real = emoji.survey

    def survey(bundle: str) -> Survey:
        surveys.append(bundle)
        return real(bundle)

    monkeypatch.setattr(emoji, "survey", survey)
    plan = plan_promotion(emoji, together)
    assert (plan.replaced, surveys) == ((previews[0],), ["emoji"])
    monkeypatch.undo()
    settle(emoji, "emoji", plan)
    live = standing(emoji, "emoji").rollout
    emoji.set_bundle_tag("emoji", ROLLOUT_TAG, written(live.model_copy(update={"shadow": shadow})))
    surveys.clear()
    monkeypatch.setattr(emoji, "survey", survey)
    # it looks whether the shadow fits as well
    assert plan_rollback(emoji, "emoji").shadow is None
    assert surveys == ["emoji"]
