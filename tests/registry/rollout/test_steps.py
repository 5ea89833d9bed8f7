"""Steps from beginning to end: with a server that follows, with none, and with one that comes too late."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from components.contract import PARTS
from components.reference import ComponentRef
from registry.bundle import publish_bundle
from registry.errors import RegistryError
from registry.gate.examine import Verdict
from registry.gate.refusals import refusals
from registry.registry import Registry
from registry.rollout import steps
from registry.rollout.outcome import settle
from registry.rollout.plans import plan_promotion
from registry.rollout.standing import standing
from registry.rollout.state import PLAN_TAG, ROLLOUT_TAG, Canary, Plan, Rollout, Shadow, State, read, written
from registry.rollout.steps import Waits
from registry.settings import RegistrySettings
from registry.version import Version
from tests.registry.following import Follower

pytestmark = pytest.mark.slow  # a registry of its own for every test

DECODER, DENOISER = "emoji.vae_decoder", "emoji.denoiser"
NO_SERVER, SERVER = Waits(0.0), Waits(3600.0)
NEXT = {"emoji.text_encoder": 2, DENOISER: 3, DECODER: 4, "emoji.vae_encoder": 2}


def pin(registry: Registry, name: str, version: int) -> ComponentRef:
    return registry.version(name, version).ref


def live(registry: Registry) -> list[int]:
    """What `production` points at, in the order of `PARTS`."""
    return [registry.aliases(f"emoji.{kind}")["production"] for kind in PARTS]


def plan_of(registry: Registry) -> Plan | None:
    return read(Plan, registry.survey("emoji").tags.get(PLAN_TAG))


@pytest.fixture(autouse=True)
def tried(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """A gate that all pass; what it was asked to try."""
    found: list[list[str]] = []

    def refusals(_: Registry, wanted: State, live: State, *__: object) -> list[str]:
        extra = [one.ref for one in (wanted.canary, wanted.shadow) if one is not None]
        found.append([str(ref) for ref in (*wanted.components, *extra) if ref not in live.components])
        return []

    monkeypatch.setattr(steps, "refusals", refusals)
    return found


def test_a_server_follows_a_promotion_of_several(
    emoji: Registry, emoji_settings: RegistrySettings, tried: list[list[str]]
) -> None:
    with Follower(emoji_settings, "emoji"):
        step = steps.promote(emoji, [pin(emoji, DENOISER, 2), pin(emoji, DECODER, 2)], waits=SERVER)
    assert step.served
    assert step.rollout.state == "live"
    assert live(emoji) == [1, 2, 2, 1]
    assert tried == [["emoji.denoiser/2", "emoji.vae_decoder/2"]]


def test_a_server_that_cannot_prepare_stops_it(emoji: Registry, emoji_settings: RegistrySettings) -> None:
    with Follower(emoji_settings, "emoji", "denoiser: emoji.denoiser/2 could not be prepared: no memory"):
        with pytest.raises(RegistryError) as refused:
            steps.promote(emoji, [pin(emoji, DENOISER, 2)], waits=SERVER)
        assert str(refused.value) == (
            "the rollout was stopped, what was live is served on: "
            "denoiser: emoji.denoiser/2 could not be prepared: no memory"
        )
    assert live(emoji) == [1, 1, 1, 1]
    # what was stopped is no ground for what comes next
    assert [ref.version for ref in standing(emoji, "emoji").wanted.components] == [1, 1, 1, 1]


def test_two_promotions_in_a_row_both_go_live(emoji: Registry, emoji_settings: RegistrySettings) -> None:
    """The first is still being prepared when the second comes, which takes its place and holds it too."""
    with Follower(emoji_settings, "emoji") as server:
        server.prepared.clear()
        failed: list[str] = []

        def promote() -> None:
            registry = Registry.connect(emoji_settings)
            try:
                steps.promote(registry, [pin(registry, DENOISER, 2)], waits=SERVER)
            except RegistryError as error:
                failed.append(str(error))

        first = threading.Thread(target=promote)
        first.start()
        server.taken.wait()
        plan_promotion(emoji, [pin(emoji, DECODER, 2)])
        server.prepared.set()
        step = steps.promote(emoji, [pin(emoji, DECODER, 2)], waits=SERVER)
        first.join()
    assert step.served
    assert live(emoji) == [1, 2, 2, 1]
    # this server lets the first one end, as the real one may
    assert failed in ([], ["bundle emoji: another change took the place of this one; see status"])


def test_without_a_server_the_next_start_serves_it(emoji: Registry) -> None:
    step = steps.promote(emoji, [pin(emoji, DECODER, 2)], waits=NO_SERVER)
    assert not step.served
    assert step.rollout.state == "live"
    assert live(emoji) == [1, 1, 2, 1]
    step = steps.rollback(emoji, "emoji", NO_SERVER)
    assert not step.served
    assert live(emoji) == [1, 1, 1, 1]


def test_a_server_that_comes_late_is_waited_for(
    emoji: Registry, emoji_settings: RegistrySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes the plan up in the moment in which the command gives it up."""
    with Follower(emoji_settings, "emoji") as server:

        def late(registry: Registry, bundle: str, plan: Plan) -> Rollout | None:
            server.taken.wait()
            return settle(registry, bundle, plan)

        monkeypatch.setattr(steps, "settle", late)
        step = steps.promote(emoji, [pin(emoji, DECODER, 2)], waits=NO_SERVER)
    assert step.served
    assert live(emoji) == [1, 1, 2, 1]


def test_a_promotion_that_does_not_fit_is_never_tried(emoji: Registry, tried: list[list[str]]) -> None:
    with pytest.raises(RegistryError, match=r"emoji.vae_decoder/3: .*; emoji.vae_decoder/3 does not fit emoji.vae_enc"):
        steps.promote(emoji, [pin(emoji, DECODER, 3)], waits=NO_SERVER)
    assert (tried, plan_of(emoji)) == ([], None)


def test_what_is_refused_is_said_and_not_planned(emoji: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "refusals", lambda *_: ["emoji.vae_decoder/2: is flat", "emoji.denoiser/2: crashes"])
    chosen = pin(emoji, DECODER, 2)
    for step in (
        lambda: steps.promote(emoji, [chosen], waits=NO_SERVER),
        lambda: steps.canary(emoji, DECODER, Canary(ref=chosen, percent=5), waits=NO_SERVER),
        lambda: steps.shadow(emoji, DECODER, Shadow(ref=chosen, percent=5), waits=NO_SERVER),
        lambda: steps.point(emoji, [chosen], "candidate"),
    ):
        with pytest.raises(RegistryError, match=r"^emoji.vae_decoder/2: is flat; emoji.denoiser/2: crashes$"):
            step()
    assert plan_of(emoji) is None
    assert emoji.aliases(DECODER) == {"production": 1}


def test_the_gate_itself_refuses(emoji: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real one, of a component that has no graph that runs."""
    monkeypatch.undo()
    with pytest.raises(RegistryError, match=r"^emoji.vae_decoder/2: vae_decoder: "):
        steps.promote(emoji, [pin(emoji, DECODER, 2)], waits=NO_SERVER)
    assert plan_of(emoji) is None
    assert emoji.version(DECODER, 2).tags["gate.verdict"] == "refused"
    # to go back to what was live before asks no gate
    assert steps.promote(emoji, [pin(emoji, DECODER, 1)], waits=NO_SERVER).rollout.components


def test_a_new_latent_space_goes_live_and_back_as_a_whole(emoji: Registry, tried: list[list[str]]) -> None:
    steps.promote(emoji, [pin(emoji, name, version) for name, version in NEXT.items()], waits=NO_SERVER)
    assert live(emoji) == list(NEXT.values())
    assert len(tried[0]) == 4
    steps.rollback(emoji, "emoji", NO_SERVER)
    assert live(emoji) == [1, 1, 1, 1]
    assert len(tried) == 1, "what was live before is not tried again"


def test_what_is_live_may_be_promoted_again(
    emoji: Registry, emoji_settings: RegistrySettings, tried: list[list[str]]
) -> None:
    steps.promote(emoji, [pin(emoji, DENOISER, 2)], waits=NO_SERVER)
    before = standing(emoji, "emoji").live
    with Follower(emoji_settings, "emoji"):
        step = steps.promote(emoji, [pin(emoji, DENOISER, 2)], waits=SERVER)
    assert step.rollout == before.model_copy(update={"plan": step.rollout.plan})
    assert live(emoji) == [1, 2, 1, 1]
    assert tried[1] == []
    steps.rollback(emoji, "emoji", NO_SERVER)
    assert live(emoji) == [1, 1, 1, 1], "it changed nothing, so what was before stays what was before"


@pytest.mark.parametrize("served", [False, True])
def test_what_a_user_promotes_is_his_also_where_it_is_live_already(
    emoji: Registry, emoji_settings: RegistrySettings, emoji_home: Path, served: bool
) -> None:
    """So the next start, with a newer folder, leaves it."""
    assert emoji.version(DENOISER, 1).tags["promoted_by_start"] == "production"
    if served:
        with Follower(emoji_settings, "emoji"):
            steps.promote(emoji, [pin(emoji, DENOISER, 1)], waits=SERVER)
    else:
        steps.promote(emoji, [pin(emoji, DENOISER, 1)], waits=NO_SERVER)
    assert "promoted_by_start" not in emoji.version(DENOISER, 1).tags
    assert emoji.version(DECODER, 1).tags["promoted_by_start"] == "production", "of that nobody spoke"
    publish_bundle(emoji, emoji_home.parent / "emoji", "emoji")
    assert live(emoji) == [1, 1, 1, 1]


def test_a_canary_begins_is_promoted_and_ends(emoji: Registry, emoji_settings: RegistrySettings) -> None:
    canary = Canary(ref=pin(emoji, DECODER, 2), percent=5)
    with Follower(emoji_settings, "emoji"):
        step = steps.canary(emoji, DECODER, canary, waits=SERVER)
        assert (step.served, step.rollout.canary) == (True, canary)
        assert live(emoji) == [1, 1, 1, 1]
        assert steps.rollback(emoji, "emoji", SERVER).rollout.canary is None
        steps.canary(emoji, DECODER, canary, waits=SERVER)
        assert steps.canary(emoji, DECODER, None, waits=SERVER).rollout.canary is None
        steps.canary(emoji, DECODER, canary, waits=SERVER)
        step = steps.promote(emoji, [canary.ref], waits=SERVER)
    assert step.rollout.canary is None
    assert live(emoji) == [1, 1, 2, 1]


def test_a_shadow_begins_and_ends(emoji: Registry, tried: list[list[str]]) -> None:
    shadow = Shadow(ref=pin(emoji, DECODER, 2), percent=5)
    assert steps.shadow(emoji, DECODER, shadow, waits=NO_SERVER).rollout.shadow == shadow
    assert tried == [["emoji.vae_decoder/2"]]
    assert steps.shadow(emoji, DECODER, None, waits=NO_SERVER).rollout.shadow is None
    with pytest.raises(RegistryError, match="only a vae_decoder can be a shadow"):
        steps.shadow(emoji, DENOISER, Shadow(ref=pin(emoji, DENOISER, 2), percent=5), waits=NO_SERVER)
    assert len(tried) == 1, "it was said before that was tried"


def test_another_alias_moves_at_once_and_changes_no_rollout(emoji: Registry, tried: list[list[str]]) -> None:
    steps.point(emoji, [pin(emoji, DECODER, 2), pin(emoji, DENOISER, 2)], "candidate")
    assert emoji.aliases(DECODER) == {"production": 1, "candidate": 2}
    assert emoji.aliases(DENOISER) == {"production": 1, "candidate": 2}
    assert tried == [["emoji.vae_decoder/2"], ["emoji.denoiser/2"]], "each beside what is live"
    assert plan_of(emoji) is None


def test_another_alias_needs_no_whole_bundle(registry: Registry, decoder: Path) -> None:
    chosen = registry.publish(decoder, DECODER)
    steps.point(registry, [chosen], "candidate")
    assert registry.aliases(DECODER) == {"candidate": 1}
    with pytest.raises(RegistryError, match=r"no version of emoji.text_encoder, .* is in production$"):
        steps.promote(registry, [chosen], waits=NO_SERVER)


def test_a_bundle_goes_live_that_was_published_part_by_part(
    registry: Registry, write_bundle: Callable[[Path], Path], tmp_path: Path
) -> None:
    folder = write_bundle(tmp_path / "emoji")
    parts = [registry.publish(folder / kind, f"emoji.{kind}") for kind in PARTS]
    assert steps.promote(registry, parts, waits=NO_SERVER).rollout.components == tuple(parts)
    assert live(registry) == [1, 1, 1, 1]


def know_a_server(registry: Registry) -> None:
    """As a controller's first record does."""
    components = tuple(pin(registry, f"emoji.{kind}", 1) for kind in PARTS)
    registry.set_bundle_tag(
        "emoji", ROLLOUT_TAG, written(Rollout(components=components, state="live", server="0" * 32))
    )


def test_a_server_that_is_known_is_not_gone_past(emoji: Registry, caplog: pytest.LogCaptureFixture) -> None:
    """It may look seldom, or be starting again."""
    know_a_server(emoji)
    with pytest.raises(RegistryError) as refused:
        steps.promote(emoji, [pin(emoji, DECODER, 2)], waits=Waits(0.0, known_s=0.2))
    assert str(refused.value) == (
        "bundle emoji: its server has not taken this up within 0.2 s; nothing is changed yet, and the server "
        "follows it once it is back: rollback gives it up, --offline changes it without a server"
    )
    assert "its server has not taken this up yet; waiting up to 0.2 s" in caplog.text
    assert live(emoji) == [1, 1, 1, 1]
    pending = standing(emoji, "emoji").pending
    assert pending is not None
    assert pending == plan_of(emoji)
    step = steps.promote(emoji, [pin(emoji, DECODER, 2)], waits=Waits(0.0, offline=True))
    assert not step.served
    assert live(emoji) == [1, 1, 2, 1]


def test_a_server_that_is_known_may_come_late(emoji: Registry, emoji_settings: RegistrySettings) -> None:
    know_a_server(emoji)
    with Follower(emoji_settings, "emoji"):
        assert steps.promote(emoji, [pin(emoji, DECODER, 2)], waits=Waits(0.0, known_s=3600.0)).served
    assert live(emoji) == [1, 1, 2, 1]


def test_a_canary_that_no_request_would_run_is_not_tried(emoji: Registry, tried: list[list[str]]) -> None:
    chosen = Canary(ref=pin(emoji, "emoji.vae_encoder", 2), percent=5)
    with pytest.raises(RegistryError, match=r"^emoji.vae_encoder: only a bundle's .* can be a canary"):
        steps.canary(emoji, "emoji.vae_encoder", chosen, waits=NO_SERVER)
    assert tried == []


def test_another_alias_is_not_kept_away_by_what_is_live(emoji: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """What somebody moved `production` to by hand is tried before it goes live, not for a candidate beside it."""
    monkeypatch.setattr(steps, "refusals", refusals)
    monkeypatch.setattr("registry.gate.refusals.examine", lambda _, version, *__, **___: _all_but(DECODER, version))
    emoji.promote(DECODER, 2)
    steps.point(emoji, [pin(emoji, DENOISER, 2)], "candidate")
    with pytest.raises(RegistryError, match=r"^emoji.vae_decoder/2: it is flat$"):
        steps.promote(emoji, [pin(emoji, DENOISER, 2)], waits=NO_SERVER)
    with pytest.raises(RegistryError, match=r"^emoji.vae_decoder/2: it is flat$"):
        steps.point(emoji, [pin(emoji, DECODER, 2)], "candidate")


def _all_but(name: str, version: Version) -> Verdict:
    reasons = ("it is flat",) if version.ref.name == name else ()
    return Verdict(passed=not reasons, reasons=reasons, onnxruntime="1")
