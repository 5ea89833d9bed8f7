"""What became of a plan: a server followed it, or nobody did and it is settled without one."""

import time

from registry.errors import RegistryError
from registry.registry import Registry
from registry.rollout.standing import standing
from registry.rollout.state import PLAN_TAG, ROLLOUT_TAG, Plan, Rollout, read, with_changes, written

_POLL_S = 0.1


def outcome(registry: Registry, bundle: str, plan: Plan, taken_up_s: float, done_s: float) -> Rollout | None:
    """What a server made of a plan; None where none takes it up within `taken_up_s` seconds.

    Raises:
        RegistryError: another plan has taken its place, or the server is not done with it within `done_s` seconds.
    """
    started = time.monotonic()
    while True:
        survey = registry.survey(bundle)
        rollout = read(Rollout, survey.tags.get(ROLLOUT_TAG))
        waited = time.monotonic() - started
        if rollout is not None and rollout.plan == plan.id:
            if rollout.state != "preparing":
                return rollout
            if waited > done_s:
                raise RegistryError(f"bundle {bundle}: the server still prepares it after {done_s:g} s; see status")
        else:
            _require_newest(bundle, plan, read(Plan, survey.tags.get(PLAN_TAG)))
            if waited > taken_up_s:
                return None
        time.sleep(_POLL_S)


def settle(registry: Registry, bundle: str, plan: Plan) -> Rollout | None:
    """Follow a plan where no server does: the alias `production` moves, and the next start takes what it points at.

    None where a server has taken it up after all; nothing has moved then.

    Raises:
        RegistryError: another plan has taken its place, a version is gone, or the registry cannot be asked.
    """
    with registry.writing():
        now = standing(registry, bundle)
        if now.rollout.plan == plan.id:
            return None
        _require_newest(bundle, plan, now.pending)
        # the aliases first: cut off between the two, the plan still waits, and a start serves what they point at
        if moving := [ref for ref in plan.components if now.production.get(ref.name) != ref.version]:
            registry.promote_together(moving)
        rollout = followed(now.rollout, plan)
        registry.set_bundle_tag(bundle, ROLLOUT_TAG, written(rollout))
    return rollout


def followed(before: Rollout, plan: Plan) -> Rollout:
    """The record once a plan has been followed: what it changed is what a rollback returns to."""
    changed = plan.components != before.components
    was = (*before.components, *(ref for ref in plan.replaced if before.ref(ref.name) is None))
    replaced = [ref for ref in was if ref not in plan.components]
    return Rollout(
        plan=plan.id,
        state="live",
        components=plan.components,
        canary=plan.canary,
        shadow=plan.shadow,
        previous=was if changed else before.previous,
        former=with_changes(before.former, replaced),
    )


def _require_newest(bundle: str, plan: Plan, newest: Plan | None) -> None:
    if newest is None or newest.id != plan.id:
        raise RegistryError(f"bundle {bundle}: another change took the place of this one; see status")
