"""What people ask of a bundle's rollout: a promotion, a canary, a shadow, the way back; and what became of it."""

import time
import uuid
from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import NamedTuple

from components.compatibility import compatible
from components.contract import PARTS, Kind
from components.reference import DEFAULT_ALIAS, ComponentRef, kind_of, registered_name
from components.trial import CHAIN
from registry.errors import RegistryAwayError, RegistryError
from registry.registry import Registry, Survey
from registry.rollout.state import (
    PLAN_TAG,
    ROLLOUT_TAG,
    Canary,
    Plan,
    Rollout,
    Shadow,
    State,
    read,
    with_changes,
    written,
)
from registry.version import Version

_POLL_S = 0.1


class Standing(NamedTuple):
    """Where a bundle stands: what is live, or in production where no server has said, and a plan not done yet."""

    live: State
    pending: Plan | None

    @property
    def wanted(self) -> State:
        """What a new plan changes."""
        return self.live if self.pending is None else self.pending

    @property
    def former(self) -> tuple[ComponentRef, ...]:
        """Versions that were live before."""
        return self.live.former if isinstance(self.live, Rollout) else ()


def standing(registry: Registry, bundle: str) -> Standing:
    """Where a bundle stands.

    Raises:
        ComponentError: no bundle can be called so.
        RegistryError: the registry cannot be asked, a record in it is damaged, or nothing of the bundle is in it.
    """
    survey = registry.survey(bundle)
    if not survey.aliases:
        raise RegistryError(f"bundle {bundle}: nothing of it is in the registry")
    rollout = read(Rollout, survey.tags.get(ROLLOUT_TAG))
    live = State(components=_pointed(registry, bundle, survey)) if rollout is None else rollout
    return Standing(live, _pending(survey, rollout))


def in_production(registry: Registry, bundle: str, survey: Survey) -> tuple[ComponentRef, ...]:
    """The bundle's parts that the alias `production` points at, in the order of `PARTS`.

    Raises:
        RegistryError: one of the four has no such alias.
    """
    found = _pointed(registry, bundle, survey)
    _require_parts(bundle, found)
    return found


def bundle_of(refs: Iterable[ComponentRef]) -> str:
    """The one bundle that versions belong to.

    Raises:
        RegistryError: there is none, or more than one, or two versions are of one name.
    """
    names = [ref.name for ref in refs]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise RegistryError(f"{', '.join(twice)}: is there more than once")
    bundles = sorted({_bundle(name) for name in names})
    if len(bundles) != 1:
        raise RegistryError(f"{', '.join(bundles) or 'nothing'}: must be components of one bundle")
    return bundles[0]


def promoted(now: State, refs: Sequence[ComponentRef]) -> State:
    """The state in which versions are live too; it ends a canary of the same names."""
    names = {ref.name for ref in refs}
    canary = None if now.canary is not None and now.canary.ref.name in names else now.canary
    # what goes live comes out of the shadow
    shadow = None if now.shadow is not None and now.shadow.ref in refs else now.shadow
    return State(components=with_changes(now.components, refs), canary=canary, shadow=shadow)


def plan_promotion(registry: Registry, refs: Sequence[ComponentRef]) -> Plan:
    """Write the plan that versions of one bundle's components go live together; it ends a canary of the same names.

    Raises:
        RegistryError: they are not of one bundle, or would not fit each other or what stays; every mismatch is said.
    """
    bundle = bundle_of(refs)
    with registry.writing():
        now = standing(registry, bundle)
        return _write(registry, bundle, now, promoted(now.wanted, refs))


def plan_canary(registry: Registry, name: str, canary: Canary | None) -> Plan:
    """Write the plan that a version of `name` gets a share of new requests, or with None that none gets any.

    Raises:
        RegistryError: no request would run it, it is live already, or does not fit what is, every mismatch is said; or
            there is none to end.
    """
    bundle = _bundle(name)
    if canary is not None:
        require_canary(name)
    with registry.writing():
        now = standing(registry, bundle)
        if canary is None:
            _require_role("canary", name, now.wanted.canary)
        return _write(registry, bundle, now, _with_role(now.wanted, "canary", canary))


def plan_shadow(registry: Registry, name: str, shadow: Shadow | None) -> Plan:
    """Write the plan that a version of `name` decodes a share of latents once more, or with None that none does.

    Raises:
        RegistryError: it is no VAE decoder, is live already, or does not fit what is, every mismatch is said; or there
            is none to end.
    """
    require_shadow(name)
    bundle = _bundle(name)
    with registry.writing():
        now = standing(registry, bundle)
        if shadow is None:
            _require_role("shadow", name, now.wanted.shadow)
        return _write(registry, bundle, now, _with_role(now.wanted, "shadow", shadow))


def require_canary(name: str) -> None:
    """Refuse a name of which no version can be a canary.

    Raises:
        ComponentError: the name is no component's.
        RegistryError: new requests do not run it, so that nothing would ever be known of it.
    """
    if name not in [registered_name(_bundle(name), kind) for kind in CHAIN]:
        raise RegistryError(f"{name}: only a bundle's {', '.join(CHAIN)} can be a canary, as every request runs those")


def require_shadow(name: str) -> None:
    """Refuse a name of which no version can be a shadow.

    Raises:
        ComponentError: the name is no component's.
        RegistryError: it is no VAE decoder's.
    """
    if kind_of(name) != Kind.VAE_DECODER:
        raise RegistryError(f"{name}: only a {Kind.VAE_DECODER} can be a shadow, as it needs nothing but latents")


def plan_rollback(registry: Registry, bundle: str) -> Plan:
    """Write the plan that undoes the last step.

    What is not done yet is given up; else a canary ends; else what was live before the last promotion comes back, and
    a shadow that does not fit that ends.

    Raises:
        RegistryError: there is nothing to go back to.
    """
    with registry.writing():
        now = standing(registry, bundle)
        return _write(registry, bundle, now, _before(registry, bundle, now))


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
            _require_newest(bundle, plan, survey)
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
        survey = registry.survey(bundle)
        before = read(Rollout, survey.tags.get(ROLLOUT_TAG))
        if before is not None and before.plan == plan.id:
            return None
        _require_newest(bundle, plan, survey)
        if before is None:
            before = _recorded(State(components=_pointed(registry, bundle, survey)))
        at = {name: aliases.get(DEFAULT_ALIAS) for name, aliases in survey.aliases.items()}
        # the aliases first: cut off between the two, the plan still waits, and a start serves what they point at
        if moving := [ref for ref in plan.components if at.get(ref.name) != ref.version]:
            registry.promote_together(moving)
        rollout = followed(before, plan)
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


def check_plan(registry: Registry, plan: State) -> None:
    """Refuse a plan whose components, canary and shadow do not fit each other or what else is in production.

    Of a rollout, which is what is, the aliases may say what they like.

    Raises:
        RegistryError: every mismatch is said; or one of the four parts is missing, a version is not in the registry
            as it is named, or a canary or shadow is live already.
    """
    bundle = bundle_of(plan.components)
    _require_parts(bundle, plan.components)
    live = [_version(registry, ref) for ref in plan.components]
    others = [] if isinstance(plan, Rollout) else registry.beside(bundle, {ref.name for ref in plan.components})
    pairs = [*combinations([*live, *others], 2)]
    for role, extra in (("canary", plan.canary), ("shadow", plan.shadow)):
        if extra is None:
            continue
        if extra.ref in plan.components:
            raise RegistryError(f"{extra.ref}: is live, and cannot be a {role} as well")
        if plan.ref(extra.ref.name) is None:
            raise RegistryError(f"{extra.ref}: nothing of that name is live, which a {role} would stand beside")
        version = _version(registry, extra.ref)
        pairs += [(version, one) for one in live if one.ref.name != extra.ref.name]
    mismatches = [
        f"{one.ref} does not fit {other.ref}: {mismatch}"
        for one, other in pairs
        for mismatch in compatible(one.contract, other.contract)
    ]
    if mismatches:
        raise RegistryError("; ".join(dict.fromkeys(mismatches)))


def _pending(survey: Survey, rollout: Rollout | None) -> Plan | None:
    plan = read(Plan, survey.tags.get(PLAN_TAG))
    done = plan is None or (rollout is not None and rollout.plan == plan.id and rollout.state != "preparing")
    return None if done else plan


def _pointed(registry: Registry, bundle: str, survey: Survey) -> tuple[ComponentRef, ...]:
    names = [registered_name(bundle, kind) for kind in PARTS]
    found = {name: survey.aliases.get(name, {}).get(DEFAULT_ALIAS) for name in names}
    return tuple(registry.version(name, version).ref for name, version in found.items() if version is not None)


def _require_parts(bundle: str, refs: Iterable[ComponentRef]) -> None:
    names = {ref.name for ref in refs}
    if missing := [name for kind in PARTS if (name := registered_name(bundle, kind)) not in names]:
        raise RegistryError(f"bundle {bundle}: no version of {', '.join(missing)} is in {DEFAULT_ALIAS}")


def _require_newest(bundle: str, plan: Plan, survey: Survey) -> None:
    wanted = read(Plan, survey.tags.get(PLAN_TAG))
    if wanted is None or wanted.id != plan.id:
        raise RegistryError(f"bundle {bundle}: another change took the place of this one; see status")


def _require_role(role: str, name: str, extra: Canary | Shadow | None) -> None:
    if extra is None or extra.ref.name != name:
        other = "there is none" if extra is None else f"that is {extra.ref}"
        raise RegistryError(f"{name}: is no {role}; {other}")


def _with_role(now: State, role: str, extra: Canary | Shadow | None) -> State:
    return State(components=now.components, **({"canary": now.canary, "shadow": now.shadow} | {role: extra}))


def _version(registry: Registry, ref: ComponentRef) -> Version:
    found = registry.version(ref.name, ref.version)
    if found.ref != ref:
        raise RegistryError(f"{ref}: the registry's has the sha256 {found.ref.sha256}, not {ref.sha256}")
    return found


def _before(registry: Registry, bundle: str, now: Standing) -> State:
    live = now.live
    if now.pending is not None:
        return live
    if live.canary is not None:
        return _with_role(live, "canary", None)
    if not isinstance(live, Rollout) or not live.previous:
        raise RegistryError(f"bundle {bundle}: nothing was live before what is live now")
    alone = State(components=live.previous)
    if live.shadow is None:
        return alone
    try:
        beside = _with_role(alone, "shadow", live.shadow)
        check_plan(registry, beside)
    except RegistryAwayError:
        raise
    except RegistryError:
        return alone
    return beside


def _write(registry: Registry, bundle: str, now: Standing, wanted: State) -> Plan:
    plan = Plan(
        id=uuid.uuid4().hex,
        components=wanted.components,
        canary=wanted.canary,
        shadow=wanted.shadow,
        replaced=_replaced(registry, bundle, now.live, wanted),
    )
    check_plan(registry, plan)
    # what becomes of it must be writable as well
    written(followed(_recorded(now.live), plan))
    registry.set_bundle_tag(bundle, PLAN_TAG, written(plan))
    return plan


def _replaced(registry: Registry, bundle: str, live: State, wanted: State) -> tuple[ComponentRef, ...]:
    """What is in production of names that come in with a plan, which is what a rollback returns to."""
    aliases = registry.survey(bundle).aliases
    return tuple(
        registry.version(ref.name, aliases[ref.name][DEFAULT_ALIAS]).ref
        for ref in wanted.components
        if live.ref(ref.name) is None and DEFAULT_ALIAS in aliases.get(ref.name, {})
    )


def _recorded(state: State) -> Rollout:
    return state if isinstance(state, Rollout) else Rollout(components=state.components, state="live")


def _bundle(name: str) -> str:
    kind_of(name)
    return name.split(".")[0]
