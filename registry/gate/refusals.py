"""Whether all versions of a plan may go live: those that nobody has tried yet go through the gate."""

from collections.abc import Iterable

from components.reference import DEFAULT_ALIAS, ComponentRef, kind_of, registered_name
from registry.gate.examine import GateSettings, examine, passed
from registry.gate.tolerance import tolerance_of
from registry.promotion import chosen_by_start
from registry.registry import Registry
from registry.rollout.state import Rollout, State
from registry.version import Version


def refusals(
    registry: Registry,
    wanted: State,
    live: State,
    settings: GateSettings,
    tried: Iterable[ComponentRef] = (),
    alias: str = DEFAULT_ALIAS,
) -> list[str]:
    """Why versions of `wanted` may not take their places beside each other, in words; none where all may.

    What is live, `tried` or has passed before is not tried again; the rest takes seconds to minutes each. Where no
    server or command has recorded what is live, that is only what an alias points at, by anybody's hand: of it, what a
    start chose is not tried. `alias` is what the versions are to be pointed at by, which may state a tolerance.

    Raises:
        RegistryError: the registry does not answer, or a version is not in it.
    """
    known = {*_known(registry, live), *tried}
    found = []
    for ref in dict.fromkeys(wanted.refs):
        if ref in known:
            continue
        candidate = registry.version(ref.name, ref.version)
        tolerance = tolerance_of(registry, ref.name, alias, settings)
        if passed(candidate, tolerance):
            continue
        others = {
            kind_of(other.name): registry.version(other.name, other.version)
            for other in wanted.components
            # of several names of one kind, those that serve every request
            if other.name == registered_name(other.name.split(".")[0], kind_of(other.name)) and other.name != ref.name
        }
        verdict = examine(registry, candidate, others, _current(registry, live, ref), settings, tolerance=tolerance)
        found += [f"{ref}: {reason}" for reason in verdict.reasons]
    return found


def _known(registry: Registry, live: State) -> Iterable[ComponentRef]:
    if isinstance(live, Rollout):
        return live.components
    return [ref for ref in live.components if chosen_by_start(registry.version(ref.name, ref.version), DEFAULT_ALIAS)]


def _current(registry: Registry, live: State, ref: ComponentRef) -> Version | None:
    """What a version would replace: of a name that no rollout holds, what is in production; never itself."""
    held = live.ref(ref.name)
    at = registry.aliases(ref.name).get(DEFAULT_ALIAS) if held is None else held.version
    return None if at is None or at == ref.version else registry.version(ref.name, at)
