"""What tests of plans share: names and versions of the bundle `emoji`, and what a server would write."""

from components.contract import PARTS
from components.reference import ComponentRef
from registry.registry import Registry
from registry.rollout.standing import standing
from registry.rollout.state import PLAN_TAG, ROLLOUT_TAG, Plan, Rollout, read, written

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
