"""Where a bundle stands, in a real registry."""

from collections.abc import Callable

import pytest

from components.contract import PARTS
from components.errors import ComponentError
from registry.errors import RegistryError
from registry.registry import Registry
from registry.rollout.plans import plan_canary, plan_promotion, plan_rollback
from registry.rollout.standing import Standing, in_production, standing
from registry.rollout.state import PLAN_TAG, ROLLOUT_TAG, Rollout, State
from tests.registry.rollout.planning import DECODER, DENOISER, pin, refs, take_up

pytestmark = pytest.mark.slow  # a registry of its own for every test


def test_where_no_server_has_been_production_is_live(emoji: Registry) -> None:
    found = standing(emoji, "emoji")
    assert found == Standing(State(components=refs(emoji)), None, {f"emoji.{kind}": 1 for kind in PARTS})
    assert found.rollout == Rollout(components=refs(emoji), state="live")
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


@pytest.mark.parametrize("state", ["live", "stopped"])
def test_a_plan_that_is_done_is_not_pending(emoji: Registry, state: str) -> None:
    plan = plan_promotion(emoji, [pin(emoji, DENOISER, 2)])
    take_up(emoji, plan, state=state)
    assert standing(emoji, "emoji").pending is None
    assert plan_promotion(emoji, [pin(emoji, DECODER, 2)]).components == refs(emoji, vae_decoder=2)


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
