"""Whether a plan fits: its versions each other, and what else of the bundle is in production."""

from collections.abc import Iterable, Mapping
from itertools import combinations

from components.compatibility import compatible
from components.reference import ComponentRef
from registry.errors import RegistryError
from registry.registry import Registry
from registry.rollout.state import Rollout, State, bundle_of, require_parts
from registry.version import Version

Pairs = Iterable[tuple[Version, Version]]


def check_plan(registry: Registry, plan: State, production: Mapping[str, int] | None = None) -> None:
    """Refuse a plan whose components, canary and shadow do not fit each other or what else is in production.

    `production` is what a survey of the bundle says of that; without it the registry is asked. Of a rollout, which is
    what is, the aliases may say what they like.

    Raises:
        RegistryError: every mismatch is said; or one of the four parts is missing, a version is not in the registry
            as it is named, a canary or shadow is live already, or something in production is none of ours.
    """
    bundle = bundle_of(plan.components)
    require_parts(bundle, plan.components)
    live = [_version(registry, ref) for ref in plan.components]
    others: tuple[Version, ...] = ()
    if not isinstance(plan, Rollout):
        at = registry.survey(bundle).production if production is None else production
        others = registry.pointed_at(at, {ref.name for ref in plan.components}).require_all()
    _require_fit([*combinations([*live, *others], 2), *_beside(registry, plan, live)])


def _beside(registry: Registry, plan: State, live: Iterable[Version]) -> Pairs:
    """A plan's canary and shadow, each with every live version that it would serve with."""
    for role, extra in (("canary", plan.canary), ("shadow", plan.shadow)):
        if extra is None:
            continue
        if extra.ref in plan.components:
            raise RegistryError(f"{extra.ref}: is live, and cannot be a {role} as well")
        if plan.ref(extra.ref.name) is None:
            raise RegistryError(f"{extra.ref}: nothing of that name is live, which a {role} would stand beside")
        version = _version(registry, extra.ref)
        yield from ((version, one) for one in live if one.ref.name != extra.ref.name)


def _require_fit(pairs: Pairs) -> None:
    mismatches = [
        f"{one.ref} does not fit {other.ref}: {mismatch}"
        for one, other in pairs
        for mismatch in compatible(one.contract, other.contract)
    ]
    if mismatches:
        raise RegistryError("; ".join(dict.fromkeys(mismatches)))


def _version(registry: Registry, ref: ComponentRef) -> Version:
    found = registry.version(ref.name, ref.version)
    if found.ref != ref:
        raise RegistryError(f"{ref}: the registry's has the sha256 {found.ref.sha256}, not {ref.sha256}")
    return found
