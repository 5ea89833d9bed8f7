"""Which versions go through the gate, beside what and against what; what the gate finds is not asked here."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from components.contract import PARTS, Kind
from components.reference import ComponentRef
from components.trial import onnxruntime_version
from registry.gate import refusals as refusals_module
from registry.gate.examine import GateSettings, Verdict
from registry.gate.refusals import refusals
from registry.gate.tolerance import set_tolerance
from registry.registry import Registry
from registry.rollout.state import Canary, Rollout, Shadow, State, with_changes
from registry.version import Version

pytestmark = pytest.mark.slow  # a registry of its own for every test

DECODER, DENOISER = "emoji.vae_decoder", "emoji.denoiser"
GATE = GateSettings()


class Trial(NamedTuple):
    candidate: str
    beside: dict[Kind, str]
    current: str | None
    tolerance: float | None


@pytest.fixture
def trials(monkeypatch: pytest.MonkeyPatch) -> list[Trial]:
    """What is handed to a gate that refuses everything for two reasons."""
    found: list[Trial] = []

    def examine(
        _: Registry,
        candidate: Version,
        beside: Mapping[Kind, Version],
        current: Version | None,
        settings: GateSettings,
        *,
        tolerance: float | None,
    ) -> Verdict:
        assert settings is GATE
        others = {kind: str(version.ref) for kind, version in beside.items()}
        found.append(Trial(str(candidate.ref), others, None if current is None else str(current.ref), tolerance))
        return Verdict(passed=False, reasons=("it is flat", "it is slow"), onnxruntime="1")

    monkeypatch.setattr(refusals_module, "examine", examine)
    return found


@pytest.fixture
def live(emoji: Registry) -> State:
    return State(components=tuple(emoji.version(f"emoji.{kind}", 1).ref for kind in PARTS))


def pin(registry: Registry, name: str, version: int) -> ComponentRef:
    return registry.version(name, version).ref


def test_what_is_live_is_not_tried(emoji: Registry, live: State, trials: list[Trial]) -> None:
    assert refusals(emoji, live, live, GATE) == []
    assert trials == []


def test_each_new_version_is_tried_beside_the_others_that_are_to_be(
    emoji: Registry, live: State, trials: list[Trial]
) -> None:
    changes = [pin(emoji, DENOISER, 2), pin(emoji, DECODER, 2)]
    found = refusals(emoji, State(components=with_changes(live.components, changes)), live, GATE)
    assert found == [f"emoji.{kind}/2: it is {how}" for kind in ("denoiser", "vae_decoder") for how in ("flat", "slow")]
    beside = {Kind.TEXT_ENCODER: "emoji.text_encoder/1", Kind.VAE_ENCODER: "emoji.vae_encoder/1"}
    assert trials == [
        Trial("emoji.denoiser/2", beside | {Kind.VAE_DECODER: "emoji.vae_decoder/2"}, "emoji.denoiser/1", None),
        Trial("emoji.vae_decoder/2", beside | {Kind.DENOISER: "emoji.denoiser/2"}, "emoji.vae_decoder/1", 20.0),
    ]


def test_a_canary_and_a_shadow_are_tried_beside_what_stays(emoji: Registry, live: State, trials: list[Trial]) -> None:
    canary = Canary(ref=pin(emoji, DECODER, 2), percent=5)
    shadow = Shadow(ref=pin(emoji, DECODER, 3), percent=5)
    refusals(emoji, State(components=live.components, canary=canary, shadow=shadow), live, GATE)
    assert [(trial.candidate, trial.current) for trial in trials] == [
        ("emoji.vae_decoder/2", "emoji.vae_decoder/1"),
        ("emoji.vae_decoder/3", "emoji.vae_decoder/1"),
    ]
    assert all(Kind.VAE_DECODER not in trial.beside for trial in trials)
    trials.clear()
    refusals(
        emoji, State(components=live.components, canary=canary, shadow=Shadow(ref=canary.ref, percent=1)), live, GATE
    )
    assert [trial.candidate for trial in trials] == ["emoji.vae_decoder/2"], "one version once"


def test_what_was_live_before_is_not_tried(emoji: Registry, live: State, trials: list[Trial]) -> None:
    former = pin(emoji, DECODER, 2)
    assert refusals(emoji, State(components=with_changes(live.components, [former])), live, GATE, [former]) == []
    assert trials == []


def test_what_has_passed_is_not_tried_unless_more_is_asked(emoji: Registry, live: State, trials: list[Trial]) -> None:
    chosen = pin(emoji, DECODER, 2)
    wanted = State(components=with_changes(live.components, [chosen]))
    tags = {"verdict": "passed", "sha256": chosen.sha256, "onnxruntime": onnxruntime_version(), "psnr_min": "31"}
    with emoji.asking() as client:
        for key, value in tags.items():
            client.set_model_version_tag(DECODER, "2", f"gate.{key}", value)
    assert refusals(emoji, wanted, live, GATE) == []
    set_tolerance(emoji, DECODER, "production", 40)
    assert len(refusals(emoji, wanted, live, GATE)) == 2
    assert [trial.tolerance for trial in trials] == [40]
    assert refusals(emoji, wanted, live, GATE, alias="candidate") == []
    set_tolerance(emoji, DECODER, "candidate", 35)
    assert len(refusals(emoji, wanted, live, GATE, alias="candidate")) == 2


def test_of_several_names_of_a_kind_the_bundles_own_stands_beside(
    emoji: Registry, live: State, trials: list[Trial], write_component: Callable[..., Path], tmp_path: Path
) -> None:
    tiny = emoji.publish(write_component(tmp_path / "tiny", content=b"tiny"), "emoji.vae_decoder.tiny")
    more = State(components=with_changes(live.components, [tiny]))
    refusals(emoji, State(components=with_changes(more.components, [pin(emoji, DENOISER, 2)])), more, GATE)
    assert trials[0].beside[Kind.VAE_DECODER] == "emoji.vae_decoder/1"
    trials.clear()
    refusals(emoji, more, live, GATE)
    assert [(trial.candidate, trial.current) for trial in trials] == [("emoji.vae_decoder.tiny/1", None)]


def test_a_bundle_may_not_be_whole_yet(emoji: Registry, trials: list[Trial]) -> None:
    refusals(emoji, State(components=(pin(emoji, DECODER, 2),)), State(components=()), GATE)
    assert trials == [Trial("emoji.vae_decoder/2", {}, "emoji.vae_decoder/1", 20.0)]


def test_what_an_alias_alone_points_at_is_tried_unless_a_start_chose_it(
    emoji: Registry, live: State, trials: list[Trial]
) -> None:
    """With a record, it is what a server or a command has tried."""
    by_hand = State(components=with_changes(live.components, [pin(emoji, DECODER, 2)]))
    assert len(refusals(emoji, by_hand, by_hand, GATE)) == 2
    assert [(trial.candidate, trial.current) for trial in trials] == [("emoji.vae_decoder/2", None)]
    trials.clear()
    assert refusals(emoji, by_hand, Rollout(components=by_hand.components, state="live"), GATE) == []
    assert trials == []


def test_a_name_that_no_rollout_holds_replaces_what_is_in_production(
    emoji: Registry, live: State, trials: list[Trial], write_component: Callable[..., Path], tmp_path: Path
) -> None:
    first, second = (
        emoji.publish(write_component(tmp_path / text, Kind.PREVIEW_DECODER, text.encode()), "emoji.preview_decoder")
        for text in ("first", "second")
    )
    emoji.promote(first.name, first.version)
    refusals(emoji, State(components=with_changes(live.components, [second])), live, GATE)
    assert [(trial.candidate, trial.current, trial.tolerance) for trial in trials] == [
        ("emoji.preview_decoder/2", "emoji.preview_decoder/1", 15.0)
    ]
