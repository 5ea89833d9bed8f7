"""The steps of a rollout from beginning to end: try the versions, write the plan, and wait for what becomes of it."""

from collections.abc import Sequence
from typing import NamedTuple

from components.reference import DEFAULT_ALIAS, ComponentRef
from registry.errors import RegistryError
from registry.gate import GateSettings
from registry.plans import (
    Standing,
    bundle_of,
    check_plan,
    outcome,
    plan_canary,
    plan_promotion,
    plan_rollback,
    plan_shadow,
    promoted,
    require_shadow,
    settle,
    standing,
)
from registry.refusals import refusals
from registry.registry import Registry
from registry.rollout import Canary, Plan, Rollout, Shadow, State, with_changes


class Waits(NamedTuple):
    """How long to wait for a server to take up a plan, and for the end of its preparations, in seconds."""

    taken_up_s: float = 5.0
    done_s: float = 1800.0


class Step(NamedTuple):
    """What became of a plan; `served` says whether a server followed it, else the next start does."""

    rollout: Rollout
    served: bool


_PATIENCE = Waits()
_GATE = GateSettings()


def promote(
    registry: Registry, refs: Sequence[ComponentRef], gate: GateSettings = _GATE, waits: Waits = _PATIENCE
) -> Step:
    """Have versions of one bundle's components go live together; no start replaces them by its own any more.

    Raises:
        RegistryError: one is refused, for every reason said, or the server could not prepare it; or the registry does
            not answer. What was live stays so.
    """
    now = standing(registry, bundle_of(refs))
    _try(registry, now, promoted(now.wanted, refs), gate)
    step = _follow(registry, plan_promotion(registry, refs), waits)
    # of one that was live already no alias has moved
    registry.claim(refs)
    return step


def point(registry: Registry, refs: Sequence[ComponentRef], alias: str, gate: GateSettings = _GATE) -> None:
    """Point an alias other than `production` at versions that requests may then ask for by it.

    Raises:
        RegistryError: one is refused, for every reason said, or the registry does not answer.
    """
    now = standing(registry, bundle_of(refs))
    for ref in refs:
        # each for itself: who asks for one of them need not ask for the others
        _require(registry, now, State(components=with_changes(now.live.components, [ref])), gate, alias)
    registry.promote_together(refs, alias)


def canary(
    registry: Registry, name: str, chosen: Canary | None, gate: GateSettings = _GATE, waits: Waits = _PATIENCE
) -> Step:
    """Give a version of `name` a share of new requests, or with None end that.

    Raises:
        RegistryError: as `promote`; or there is none to end.
    """
    if chosen is not None:
        now = standing(registry, bundle_of([chosen.ref]))
        _try(registry, now, State(components=now.wanted.components, canary=chosen), gate)
    return _follow(registry, plan_canary(registry, name, chosen), waits)


def shadow(
    registry: Registry, name: str, chosen: Shadow | None, gate: GateSettings = _GATE, waits: Waits = _PATIENCE
) -> Step:
    """Have a version of `name`, a VAE decoder, decode a share of latents once more, or with None end that.

    Raises:
        RegistryError: as `promote`; or there is none to end.
    """
    require_shadow(name)
    if chosen is not None:
        now = standing(registry, bundle_of([chosen.ref]))
        _try(registry, now, State(components=now.wanted.components, shadow=chosen), gate)
    return _follow(registry, plan_shadow(registry, name, chosen), waits)


def rollback(registry: Registry, bundle: str, waits: Waits = _PATIENCE) -> Step:
    """Undo the last step, see `plan_rollback`; what comes back was live before and is not tried again.

    Raises:
        RegistryError: there is nothing to go back to, or the registry does not answer.
    """
    return _follow(registry, plan_rollback(registry, bundle), waits)


def _try(registry: Registry, now: Standing, wanted: State, gate: GateSettings) -> None:
    # in a moment, where the gate takes minutes
    check_plan(registry, wanted)
    _require(registry, now, wanted, gate)


def _require(registry: Registry, now: Standing, wanted: State, gate: GateSettings, alias: str = DEFAULT_ALIAS) -> None:
    if found := refusals(registry, wanted, now.live, gate, now.former, alias):
        raise RegistryError("; ".join(found))


def _follow(registry: Registry, plan: Plan, waits: Waits) -> Step:
    bundle = bundle_of(plan.components)
    while (found := outcome(registry, bundle, plan, waits.taken_up_s, waits.done_s)) is None:
        if (settled := settle(registry, bundle, plan)) is not None:
            return Step(settled, served=False)
    if found.state == "stopped":
        raise RegistryError(f"the rollout was stopped, what was live is served on: {found.reason}")
    return Step(found, served=True)
