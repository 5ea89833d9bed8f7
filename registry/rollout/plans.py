"""What people ask of a bundle's rollout: a promotion, a canary, a shadow, the way back."""

import uuid
from collections.abc import Sequence

from components.contract import Kind
from components.reference import ComponentRef, kind_of, registered_name
from components.trial import CHAIN
from registry.errors import RegistryAwayError, RegistryError
from registry.registry import Registry
from registry.rollout.fit import check_plan
from registry.rollout.outcome import followed
from registry.rollout.standing import Standing, standing
from registry.rollout.state import PLAN_TAG, Canary, Plan, Shadow, State, bundle_of, with_changes, written


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


def _require_role(role: str, name: str, extra: Canary | Shadow | None) -> None:
    if extra is None or extra.ref.name != name:
        other = "there is none" if extra is None else f"that is {extra.ref}"
        raise RegistryError(f"{name}: is no {role}; {other}")


def _with_role(now: State, role: str, extra: Canary | Shadow | None) -> State:
    return State(components=now.components, **({"canary": now.canary, "shadow": now.shadow} | {role: extra}))


def _before(registry: Registry, bundle: str, now: Standing) -> State:
    live, previous = now.live, now.rollout.previous
    if now.pending is not None:
        return live
    if live.canary is not None:
        return _with_role(live, "canary", None)
    if not previous:
        raise RegistryError(f"bundle {bundle}: nothing was live before what is live now")
    alone = State(components=previous)
    if live.shadow is None:
        return alone
    try:
        beside = _with_role(alone, "shadow", live.shadow)
        check_plan(registry, beside, now.production)
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
        replaced=_replaced(registry, now, wanted),
    )
    check_plan(registry, plan, now.production)
    # what becomes of it must be writable as well
    written(followed(now.rollout, plan))
    registry.set_bundle_tag(bundle, PLAN_TAG, written(plan))
    return plan


def _replaced(registry: Registry, now: Standing, wanted: State) -> tuple[ComponentRef, ...]:
    """What is in production of names that come in with a plan, which is what a rollback returns to."""
    new = [ref.name for ref in wanted.components if now.live.ref(ref.name) is None]
    return tuple(registry.version(name, now.production[name]).ref for name in new if name in now.production)


def _bundle(name: str) -> str:
    kind_of(name)
    return name.split(".")[0]
