"""The steps of a rollout from beginning to end: try the versions, write the plan, and wait for what becomes of it."""

import logging
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from components.reference import DEFAULT_ALIAS, ComponentRef
from registry.errors import RegistryError
from registry.gate.examine import GateSettings
from registry.gate.refusals import refusals
from registry.registry import Registry
from registry.rollout.fit import check_plan
from registry.rollout.outcome import outcome, settle
from registry.rollout.plans import (
    plan_canary,
    plan_promotion,
    plan_rollback,
    plan_shadow,
    promoted,
    require_canary,
    require_shadow,
)
from registry.rollout.presence import has_server
from registry.rollout.standing import Standing, standing
from registry.rollout.state import Canary, Plan, Rollout, Shadow, State, bundle_of, with_changes

_log = logging.getLogger(__name__)


class Waits(NamedTuple):
    """How long to wait for a server to take up a plan, and for the end of its preparations, in seconds.

    A server that is known to follow the bundle has `known_s`, and is then not gone past, unless `offline` says that
    there is none any more.
    """

    taken_up_s: float = 5.0
    done_s: float = 1800.0
    known_s: float = 60.0
    offline: bool = False


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
        wanted = State(components=with_changes(now.live.components, [ref]))
        others = [other for other in now.live.components if other.name != ref.name]
        _require(registry, now, wanted, gate, (*now.former, *others), alias)
    registry.promote_together(refs, alias)


def canary(
    registry: Registry, name: str, chosen: Canary | None, gate: GateSettings = _GATE, waits: Waits = _PATIENCE
) -> Step:
    """Give a version of `name` a share of new requests, or with None end that.

    Raises:
        RegistryError: as `promote`; or there is none to end.
    """
    if chosen is not None:
        require_canary(name)
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
    check_plan(registry, wanted, now.production)
    _require(registry, now, wanted, gate, now.former)


def _require(
    registry: Registry,
    now: Standing,
    wanted: State,
    gate: GateSettings,
    tried: Iterable[ComponentRef],
    alias: str = DEFAULT_ALIAS,
) -> None:
    if found := refusals(registry, wanted, now.live, gate, tried, alias):
        raise RegistryError("; ".join(found))


def _follow(registry: Registry, plan: Plan, waits: Waits) -> Step:
    bundle = bundle_of(plan.components)
    patience_s = waits.taken_up_s
    while (found := outcome(registry, bundle, plan, patience_s, waits.done_s)) is None:
        if waits.offline or not has_server(registry, bundle):
            if (settled := settle(registry, bundle, plan)) is not None:
                return Step(settled, served=False)
        elif patience_s < waits.known_s:
            _log.warning("bundle %s: its server has not taken this up yet; waiting up to %g s", bundle, waits.known_s)
            patience_s = waits.known_s
        else:
            raise RegistryError(
                f"bundle {bundle}: its server has not taken this up within {patience_s:g} s; nothing is changed yet, "
                "and the server follows it once it is back: rollback gives it up, --offline changes it without a server"
            )
    if found.state == "stopped":
        raise RegistryError(f"the rollout was stopped, what was live is served on: {found.reason}")
    return Step(found, served=True)
