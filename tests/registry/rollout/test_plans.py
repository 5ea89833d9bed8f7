"""Plans in a real registry; that a version passes the gate is not asked here."""

import threading
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest

from components.contract import PARTS, Kind
from components.errors import ComponentError
from components.reference import ComponentRef
from registry.errors import RegistryAwayError, RegistryError
from registry.registry import Registry
from registry.rollout.plans import (
    Standing,
    bundle_of,
    check_plan,
    followed,
    in_production,
    outcome,
    plan_canary,
    plan_promotion,
    plan_rollback,
    plan_shadow,
    settle,
    standing,
)
from registry.rollout.state import PLAN_TAG, ROLLOUT_TAG, Canary, Plan, Rollout, Shadow, State, read, written
from registry.settings import RegistrySettings

DECODER, DENOISER = "emoji.vae_decoder", "emoji.denoiser"
LONG = 3600.0
NEXT = {"emoji.text_encoder": 2, DENOISER: 3, DECODER: 4, "emoji.vae_encoder": 2}


def refs(registry: Registry, **versions: int) -> tuple[ComponentRef, ...]:
    """The four, in version 1 where no other is given."""
    return tuple(registry.version(f"emoji.{kind}", versions.get(kind, 1)).ref for kind in PARTS)


def pin(registry: Registry, name: str, version: int) -> ComponentRef:
    return registry.version(name, version).ref


def wanted(registry: Registry) -> Plan | None:
    return read(Plan, registry.survey("emoji").tags.get(PLAN_TAG))


def take_up(registry: Registry, plan: Plan, **changes: object) -> Rollout:
    """Say what a server would: by default that it prepares the plan."""
    live = standing(registry, "emoji").live
    fields = {"plan": plan.id, "state": "preparing", "components": live.components} | changes
    rollout = live.model_copy(update=fields) if isinstance(live, Rollout) else Rollout.model_validate(fields)
    registry.set_bundle_tag("emoji", ROLLOUT_TAG, written(rollout))
    return rollout


def test_where_no_server_has_been_production_is_live(emoji: Registry) -> None:
    found = standing(emoji, "emoji")
    assert found == Standing(State(components=refs(emoji)), None)
    assert found.wanted == found.live
    assert found.former == ()
    assert in_production(emoji, "emoji", emoji.survey("emoji")) == refs(emoji)


def test_what_is_not_there_is_said(emoji: Registry) -> None:
    with pytest.raises(RegistryError, match=r"^bundle sd15: nothing of it is in the registry$"):
        standing(emoji, "sd15")
    with pytest.raises(RegistryError, match="bundle emoj: nothing of it"):
        plan_rollback(emoji, "emoj")  # a beginning of a name is no name
    for bundle in ("", "EMOJI", "emoji' OR name LIKE '%", "%", "x\x1b[2J"):
        with pytest.raises(ComponentError, match="must be <bundle>"):
            plan_rollback(emoji, bundle)


def test_a_promotion_is_written_and_moves_nothing(emoji: Registry) -> None:
    plan = plan_promotion(emoji, [pin(emoji, DENOISER, 2), pin(emoji, DECODER, 2)])
    assert plan.components == refs(emoji, denoiser=2, vae_decoder=2)
    assert wanted(emoji) == plan
    assert emoji.aliases(DECODER) == {"production": 1}
    assert standing(emoji, "emoji") == (State(components=refs(emoji)), plan)


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


def test_versions_of_one_plan_are_of_one_bundle_and_of_different_names(emoji: Registry) -> None:
    with pytest.raises(RegistryError, match=r"^emoji.vae_decoder: is there more than once$"):
        plan_promotion(emoji, [pin(emoji, DECODER, 1), pin(emoji, DECODER, 2)])
    other = pin(emoji, DECODER, 1).model_copy(update={"name": "sd15.vae_decoder"})
    with pytest.raises(RegistryError, match=r"^emoji, sd15: must be components of one bundle$"):
        bundle_of([other, pin(emoji, DECODER, 1)])
    with pytest.raises(RegistryError, match=r"^nothing: must be components of one bundle$"):
        bundle_of([])


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


@pytest.mark.parametrize("state", ["live", "stopped"])
def test_a_plan_that_is_done_is_not_pending(emoji: Registry, state: str) -> None:
    plan = plan_promotion(emoji, [pin(emoji, DENOISER, 2)])
    take_up(emoji, plan, state=state)
    assert standing(emoji, "emoji").pending is None
    assert plan_promotion(emoji, [pin(emoji, DECODER, 2)]).components == refs(emoji, vae_decoder=2)


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


def test_what_nobody_takes_up_settles(emoji: Registry) -> None:
    plan = plan_promotion(emoji, [pin(emoji, DECODER, 2)])
    assert outcome(emoji, "emoji", plan, 0.0, LONG) is None
    rollout = settle(emoji, "emoji", plan)
    assert rollout is not None
    assert (rollout.plan, rollout.state, rollout.components) == (plan.id, "live", plan.components)
    assert (rollout.previous, rollout.former) == (refs(emoji), (pin(emoji, DECODER, 1),))
    assert standing(emoji, "emoji") == (rollout, None)
    assert emoji.aliases(DECODER)["production"] == 2
    assert "promoted_by_start" not in emoji.version(DECODER, 1).tags


def test_what_a_server_took_up_after_all_is_left_to_it(emoji: Registry) -> None:
    plan = plan_promotion(emoji, [pin(emoji, DECODER, 2)])
    taken = take_up(emoji, plan)
    assert settle(emoji, "emoji", plan) is None
    assert emoji.aliases(DECODER)["production"] == 1
    assert standing(emoji, "emoji").live == taken


def test_a_settlement_cut_off_half_way_is_finished(emoji: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_promotion(emoji, [pin(emoji, DECODER, 2), pin(emoji, DENOISER, 2)])
    with monkeypatch.context() as patch:

        def die(*_: object) -> None:
            raise KeyboardInterrupt

        patch.setattr(emoji, "set_bundle_tag", die)
        with pytest.raises(KeyboardInterrupt):
            settle(emoji, "emoji", plan)
    # the aliases are there, and the plan waits still
    assert in_production(emoji, "emoji", emoji.survey("emoji")) == plan.components
    assert standing(emoji, "emoji").pending == plan
    rollout = settle(emoji, "emoji", plan)
    assert rollout is not None
    assert rollout.components == plan.components


def test_an_outcome_is_waited_for(emoji: Registry, emoji_settings: RegistrySettings) -> None:
    plan = plan_promotion(emoji, [pin(emoji, DECODER, 2)])
    take_up(emoji, plan)
    elsewhere = Registry.connect(emoji_settings)
    timer = threading.Timer(0.5, lambda: take_up(elsewhere, plan, state="stopped", reason="it crashed"))
    timer.start()
    try:
        found = outcome(emoji, "emoji", plan, 0.0, LONG)
    finally:
        timer.join()
    assert found is not None
    assert (found.state, found.reason) == ("stopped", "it crashed")


def test_a_server_that_prepares_for_ever_is_given_up(emoji: Registry) -> None:
    plan = plan_promotion(emoji, [pin(emoji, DECODER, 2)])
    take_up(emoji, plan)
    with pytest.raises(RegistryError, match=r"^bundle emoji: the server still prepares it after 0 s; see status$"):
        outcome(emoji, "emoji", plan, 0.0, 0.0)


@pytest.mark.parametrize("replaced", [False, True])
def test_a_plan_whose_place_another_took_has_no_outcome(emoji: Registry, replaced: bool) -> None:
    plan = plan_promotion(emoji, [pin(emoji, DECODER, 2)])
    if replaced:
        plan_promotion(emoji, [pin(emoji, DENOISER, 2)])
    else:
        with emoji.asking() as client:
            client.delete_registered_model_tag("emoji", PLAN_TAG)
    asked: list[Callable[[], object]] = [
        lambda: outcome(emoji, "emoji", plan, LONG, LONG),
        lambda: settle(emoji, "emoji", plan),
    ]
    for ask in asked:
        with pytest.raises(RegistryError, match=r"^bundle emoji: another change took the place of this one; see"):
            ask()
    assert emoji.aliases(DECODER) == {"production": 1}


@pytest.mark.parametrize(("tag", "record"), [(PLAN_TAG, "plan"), (ROLLOUT_TAG, "rollout")])
def test_a_damaged_record_stops_every_step_with_its_remedy(emoji: Registry, tag: str, record: str) -> None:
    emoji.set_bundle_tag("emoji", tag, '{"components": [{"name": "\x1b[2J"}]}')
    steps: list[Callable[[], object]] = [
        lambda: standing(emoji, "emoji"),
        lambda: plan_promotion(emoji, [pin(emoji, DECODER, 2)]),
        lambda: plan_canary(emoji, DECODER, None),
        lambda: plan_rollback(emoji, "emoji"),
    ]
    for step in steps:
        with pytest.raises(RegistryError, match=rf"the bundle's {record} in the registry is damaged: .*{tag} mends"):
            step()
    with emoji.asking() as client:
        client.delete_registered_model_tag("emoji", tag)
    assert plan_promotion(emoji, [pin(emoji, DECODER, 2)]).components == refs(emoji, vae_decoder=2)


def test_a_plan_whose_record_no_tag_could_hold_is_not_written(emoji: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """The record names what was live before besides, so it is the longer of the two."""
    monkeypatch.setattr("registry.rollout.state.MAX_RECORD_CHARACTERS", 900)
    with pytest.raises(RegistryError, match=r"record of 4 components has 1\d\d\d characters; a tag .* takes 900"):
        plan_promotion(emoji, [pin(emoji, DECODER, 2)])
    assert wanted(emoji) is None


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
