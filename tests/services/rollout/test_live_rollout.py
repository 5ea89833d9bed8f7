"""What a plan makes of what is live, and what stays of that where the plan comes to nothing."""

from typing import Any

import pytest

from components.contract import Kind
from components.reference import ComponentRef
from registry.rollout.state import Canary, Plan, Rollout, Shadow
from services.messages import LiveModel, Outcome
from services.rollout.live_rollout import LiveRollout, Step
from tests.services.rollout.conftest import ref_of


def _step(components: tuple[ComponentRef, ...], **more: Any) -> Step:
    return Step(Plan(id="b" * 32, components=components, **more), "b" * 32)


@pytest.fixture
def first(live: LiveModel) -> Rollout:
    return Rollout(components=tuple(live.pins.values()), state="live", plan="a" * 32, reason="long ago")


@pytest.fixture
def changed(live: LiveModel) -> tuple[ComponentRef, ...]:
    """The live components, the text encoder in its second version."""
    pins = {**live.pins, Kind.TEXT_ENCODER: ref_of(live, Kind.TEXT_ENCODER, 2)}
    return tuple(pins.values())


@pytest.fixture
def canary(live: LiveModel) -> Canary:
    """One that ends with its first request that fails."""
    return Canary(ref=ref_of(live, Kind.VAE_DECODER, 2), percent=50, least=1)


def _ends(rollout: LiveRollout, canary: Canary) -> str:
    reason = rollout.note([Outcome(canary.ref, error=True)])
    assert reason is not None
    return reason


def test_a_plan_that_goes_live(first: Rollout, changed: tuple[ComponentRef, ...]) -> None:
    rollout = LiveRollout(first, ())
    before = rollout.begin(_step(changed))
    assert before == first
    assert (rollout.rollout.components, rollout.rollout.state) == (first.components, "preparing")
    assert (rollout.rollout.plan, rollout.rollout.reason) == ("b" * 32, None)
    rollout.go_live(_step(changed), before)
    found = rollout.rollout
    assert (found.components, found.previous, found.state) == (changed, first.components, "live")
    assert set(rollout.served) == {*first.components, *changed}, "latents of any of these can be decoded"


def test_a_plan_of_our_own_that_is_none_in_the_registry(first: Rollout, changed: tuple[ComponentRef, ...]) -> None:
    step = _step(changed)._replace(taken_up=first.plan)
    rollout = LiveRollout(first, ())
    before = rollout.begin(step)
    assert rollout.rollout.plan == first.plan, "else the last one that people wrote would be followed again"
    rollout.go_live(step, before)
    assert (rollout.rollout.plan, rollout.rollout.components) == (first.plan, changed)


def test_a_plan_that_comes_to_nothing(first: Rollout, changed: tuple[ComponentRef, ...]) -> None:
    rollout = LiveRollout(first, ())
    rollout.go_back(rollout.begin(_step(changed)))
    assert rollout.rollout == first, "so that it is new once more"
    rollout.stop(_step(changed), rollout.begin(_step(changed)), "x" * 5000)
    found = rollout.rollout
    assert (found.components, found.plan, found.state) == (first.components, "b" * 32, "stopped")
    assert found.reason == "x" * 1000


@pytest.mark.parametrize("end", ["live", "stopped", "back"])
def test_a_canary_that_ends_meanwhile_stays_ended(
    first: Rollout, changed: tuple[ComponentRef, ...], canary: Canary, end: str
) -> None:
    step = _step(changed, canary=canary)
    rollout = LiveRollout(first.model_copy(update={"canary": canary}), ())
    before = rollout.begin(step)
    why = _ends(rollout, canary)
    assert (rollout.rollout.canary, rollout.canary) == (None, None)
    if end == "live":
        rollout.go_live(step, before)
        assert rollout.rollout.components == changed
    elif end == "stopped":
        rollout.stop(step, before, "no")
    else:
        rollout.go_back(before)
    assert (rollout.rollout.canary, rollout.canary) == (None, None)
    assert rollout.rollout.reason == ("no" if end == "stopped" else why)
    assert rollout.note([Outcome(canary.ref, error=True)]) is None, "it ends once"


def test_a_canary_that_ended_may_be_wanted_again(
    first: Rollout, changed: tuple[ComponentRef, ...], canary: Canary
) -> None:
    rollout = LiveRollout(first.model_copy(update={"canary": canary}), ())
    _ends(rollout, canary)
    again = _step(first.components, canary=canary)
    rollout.go_live(again, rollout.begin(again))
    assert (rollout.rollout.canary, rollout.rollout.reason) == (canary, None), "nothing else is in that plan"
    assert rollout.canary is not None
    assert rollout.canary.tallies == {}
    beyond = _step(changed, canary=canary)
    rollout.go_live(beyond, rollout.begin(beyond))
    assert rollout.rollout.canary == canary, "its end before that is forgotten"


def test_what_goes_beside_goes_on_with_its_counts(
    live: LiveModel, first: Rollout, changed: tuple[ComponentRef, ...], canary: Canary
) -> None:
    lenient = canary.model_copy(update={"least": 100})
    shadow = Shadow(ref=ref_of(live, Kind.VAE_DECODER, 3), percent=50)
    rollout = LiveRollout(first.model_copy(update={"canary": lenient, "shadow": shadow}), ())
    assert rollout.note([Outcome(canary.ref, error=True)]) is None
    watch, log = rollout.canary, rollout.shadow
    assert watch is not None
    assert log is not None
    step = _step(changed, canary=lenient, shadow=shadow)
    rollout.go_live(step, rollout.begin(step))
    assert rollout.canary is watch
    assert rollout.shadow is log
    assert watch.tally(canary.ref).errors == 1
    without = _step(changed)
    rollout.go_live(without, rollout.begin(without))
    assert [rollout.canary, rollout.shadow] == [None, None]
