"""What becomes of plans in a real registry, with a server and without."""

import threading
from collections.abc import Callable

import pytest

from registry.errors import RegistryError
from registry.registry import Registry
from registry.rollout.outcome import outcome, settle
from registry.rollout.plans import plan_promotion
from registry.rollout.standing import in_production, standing
from registry.rollout.state import PLAN_TAG
from registry.settings import RegistrySettings
from tests.registry.rollout.planning import DECODER, DENOISER, LONG, pin, refs, take_up

pytestmark = pytest.mark.slow  # a registry of its own for every test


def test_what_nobody_takes_up_settles(emoji: Registry) -> None:
    plan = plan_promotion(emoji, [pin(emoji, DECODER, 2)])
    assert outcome(emoji, "emoji", plan, 0.0, LONG) is None
    rollout = settle(emoji, "emoji", plan)
    assert rollout is not None
    assert (rollout.plan, rollout.state, rollout.components) == (plan.id, "live", plan.components)
    assert (rollout.previous, rollout.former) == (refs(emoji), (pin(emoji, DECODER, 1),))
    now = standing(emoji, "emoji")
    assert (now.live, now.pending, now.rollout) == (rollout, None, rollout)
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
