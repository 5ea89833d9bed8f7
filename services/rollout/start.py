"""What a start serves: what the registry says, or what was served last where it does not answer."""

import logging
from collections.abc import Collection

from components.contract import PARTS
from components.errors import ComponentError
from components.folder import ComponentFolder
from components.reference import DEFAULT_ALIAS, ComponentRef
from pipeline.bundle import require_fit
from registry.bundle import publish_bundle
from registry.errors import RegistryAwayError, RegistryError
from registry.gate.examine import passed
from registry.local.cache import ComponentCache
from registry.local.fetch import fetch
from registry.promotion import chosen_by_start
from registry.registry import Registry, Survey
from registry.rollout.fit import check_plan
from registry.rollout.standing import in_production
from registry.rollout.state import ROLLOUT_TAG, Rollout, read, with_changes
from registry.version import Version
from services.errors import StartError
from services.rollout.decision import require_bundle
from services.rollout.desk import unusable_means_away
from services.rollout.last_good import KnownVersion, LastGood, keep, kept, live_model, resumed, served_since
from services.rollout.settings import RolloutSettings
from services.rollout.trust import StrangeRegistryError, require_known

_log = logging.getLogger("ray.serve")


def begin(settings: RolloutSettings) -> tuple[LastGood, str | None]:
    """What to serve, its files on this machine, and why the registry is away, None where it is not.

    The bundle's folder is published first, if need be. A registry that has not what was live here last counts as away
    while this machine has the files of that.

    Raises:
        StartError: a component is missing, damaged or does not fit the others, or the registry cannot be used and
            nothing was served from here before.
    """
    away = None
    found = kept(settings.memory)
    try:
        try:
            start = _from_registry(settings, found)
            _check(settings, start)
        except RegistryAwayError as error:
            if found is None:
                raise
            start, away = found, str(error)
            _log.warning("%s; serving what was live last", away)
            _check(settings, start)
    except (ComponentError, RegistryError) as error:
        raise StartError(f"bundle {settings.bundle}: {error}") from None
    if away is None:
        try:
            keep(settings.memory, start)
        except OSError as error:
            _log.warning("what is live cannot be kept on disk: %s", error.strerror)
    return start, away


def _from_registry(settings: RolloutSettings, found: LastGood | None) -> LastGood:
    with unusable_means_away():
        registry = Registry.connect(settings.registry)
        if found is not None:
            _require_known(registry, settings, found.rollout)
        if settings.folder is not None:
            publish_bundle(registry, settings.folder, settings.bundle)
        rollout = _rollout(registry, settings.bundle)
        needed = tuple(_known(registry, ref) for ref in rollout.refs)
        served = served_since(() if found is None else found.served, rollout)
        former = tuple(_known_if_there(registry, ref) for ref in served if ref not in rollout.refs)
    there = tuple(known for known in former if known is not None)
    served = tuple(known.ref for known in (*there, *needed) if known.ref in served)
    return LastGood(rollout=rollout, versions=(*needed, *there), aliases={}, served=served)


def _require_known(registry: Registry, settings: RolloutSettings, served: Rollout) -> None:
    try:
        require_known(registry, settings.bundle, served)
    except StrangeRegistryError as error:
        cache = ComponentCache(settings.registry.cache)
        if all(cache.get(ref) is not None for ref in served.components):
            raise StrangeRegistryError(f"{error}; a start without {settings.memory} believes it") from None
        _log.warning("%s; it is believed, as this machine has not the files of what was live either", error)


def _known(registry: Registry, ref: ComponentRef) -> KnownVersion:
    return KnownVersion(ref=ref, contract=registry.version(ref.name, ref.version).contract)


def _known_if_there(registry: Registry, ref: ComponentRef) -> KnownVersion | None:
    try:
        version = registry.version(ref.name, ref.version)
        if version.ref != ref:
            raise RegistryError(f"the registry has {version.ref.sha256} in its place")
        return KnownVersion(ref=ref, contract=version.contract)
    except RegistryAwayError:
        raise
    except RegistryError as error:
        _log.warning("%s was live before, and cannot be served any more: %s", ref, error)
        return None


def _rollout(registry: Registry, bundle: str) -> Rollout:
    """What was live last; where `production` has moved since, to what may be served at once, that."""
    survey = registry.survey(bundle)
    last = _last(registry, bundle, survey)
    if last is None:
        return Rollout(components=in_production(registry, bundle, survey), state="live")
    try:
        return _moved(registry, last, in_production(registry, bundle, survey))
    except RegistryAwayError:
        raise
    except RegistryError as error:
        _log.warning("what %s points at is not served: %s", DEFAULT_ALIAS, error)
        return last


def _moved(registry: Registry, last: Rollout, pointed: Collection[ComponentRef]) -> Rollout:
    """The last rollout with what `production` was moved to since.

    Raises:
        RegistryError: that does not fit.
    """
    moved = [ref for ref in pointed if ref not in last.components]
    # what nobody has tried is left to the controller, which tries it first
    if not moved or not all(_may_serve(registry.version(ref.name, ref.version)) for ref in moved):
        return last
    beside = {
        role: None if extra is None or extra.ref in pointed else extra
        for role, extra in (("canary", last.canary), ("shadow", last.shadow))
    }
    components = with_changes(last.components, moved)
    former = with_changes(last.former, [ref for ref in last.components if ref not in components])
    found = last.model_copy(update={"components": components, "previous": last.components, "former": former, **beside})
    check_plan(registry, found)
    return found


def _last(registry: Registry, bundle: str, survey: Survey) -> Rollout | None:
    try:
        last = read(Rollout, survey.tags.get(ROLLOUT_TAG))
        if last is None:
            return None
        require_bundle(bundle, last)
        check_plan(registry, last)
    except RegistryAwayError:
        raise
    except (RegistryError, ComponentError) as error:
        _log.warning("what was live last cannot be served any more, so that is what %s is: %s", DEFAULT_ALIAS, error)
        return None
    return resumed(last)


def _may_serve(version: Version) -> bool:
    return chosen_by_start(version, DEFAULT_ALIAS) or passed(version, None)


def _check(settings: RolloutSettings, start: LastGood) -> None:
    """Bring every component into this machine's cache, and hold it to what the registry says of it."""
    live = live_model(settings.bundle, start.rollout, start.contracts)
    for kind in PARTS:
        if kind not in live.pins:
            raise RegistryError(f"no {kind} is live")
    for pin in live.pins.values():
        ComponentFolder.open(fetch(pin, settings.registry))
    require_fit(live.contracts)
