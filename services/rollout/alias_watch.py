"""Where the aliases of a bundle point, and which versions among that may not go live."""

import logging
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from components.contract import ALL_PARTS
from components.reference import DEFAULT_ALIAS, ComponentRef, registered_name
from registry.errors import RegistryAwayError, RegistryError
from registry.registry import Survey
from registry.rollout.state import Plan, Rollout, with_changes
from services.rollout.decision import Aliases
from services.rollout.desk import Desk

_log = logging.getLogger("ray.serve")

# an alias that goes to and fro is set back at once for so long; then its version is tried anew
_REMEMBERED_S = 60.0


class Told(NamedTuple):
    """What the registry was told: where `production` is to point, and why it does not, None where it does."""

    production: tuple[ComponentRef, ...] = ()
    refused: str | None = None


@dataclass(frozen=True, slots=True)
class _Refusal:
    reason: str
    at: float


class AliasWatch:
    """Follows the aliases from one survey to the next; used from one event loop only.

    `production` is followed where somebody moves it by hand, unless to a version that was refused.
    """

    def __init__(self, bundle: str, desk: Desk, pointed: Aliases, clock: Callable[[], float] = time.monotonic) -> None:
        """Go on from `pointed`, where aliases were when they were read last; `clock` counts seconds."""
        self.pointed = pointed
        self._names = [registered_name(bundle, kind) for kind in ALL_PARTS]
        self._desk = desk
        self._clock = clock
        self._refusals: dict[tuple[str, int], _Refusal] = {}
        self._unreadable: dict[tuple[str, int], str] = {}
        self._changed: set[str] = set()
        # where `production` stays although it is to follow
        self._stuck: dict[str, ComponentRef | None] = {}

    @property
    def refused(self) -> Mapping[tuple[str, int], str]:
        """Versions that an alias was pointed at and that may not go live, with the reason."""
        return self._unreadable | {version: refusal.reason for version, refusal in self._refusals.items()}

    async def read(self, survey: Survey) -> None:
        """Take in a survey.

        Raises:
            RegistryAwayError: the registry does not answer; all is as it was before.
        """
        pointed: dict[str, dict[str, ComponentRef]] = {}
        unreadable: dict[tuple[str, int], str] = {}
        for name, aliases in survey.aliases.items():
            pointed[name] = {}
            for alias, version in aliases.items():
                try:
                    pointed[name][alias] = await self._desk.pin(name, version)
                except RegistryAwayError:
                    raise
                except RegistryError as error:
                    unreadable[name, version] = str(error)
        for what, reason in unreadable.items():
            if self._unreadable.get(what) != reason:
                _log.error("%s", reason)
        before, self.pointed, self._unreadable = self.pointed, pointed, unreadable
        self._note_changes(before, survey)

    def moved(self, live: Rollout) -> list[ComponentRef]:
        """The versions that somebody moved `production` to by hand, and that nobody has refused."""
        found = [ref for name in self._names if (ref := self._production(name)) is not None]
        return [
            ref
            for ref in found
            if ref not in live.components
            and (ref.name, ref.version) not in self._refusals
            and self._stuck.get(ref.name) != ref
        ]

    def astray(self, live: Rollout) -> list[ComponentRef]:
        """The live versions that `production` was moved away from since this was asked last, to none that may serve."""
        changed, self._changed = self._changed, set()
        found = []
        for name in self._names:
            at, ref = self._production(name), live.ref(name)
            bad = at is None or (at.name, at.version) in self._refusals
            if name in changed and bad and ref is not None and at != ref:
                found.append(ref)
        return found

    def refuse(self, refs: Iterable[ComponentRef], reason: str) -> list[ComponentRef]:
        """Remember that versions may not go live, and give those that `production` points at."""
        pointed = [ref for ref in refs if self._production(ref.name) == ref]
        self._refusals |= {(ref.name, ref.version): _Refusal(reason, self._clock()) for ref in pointed}
        return pointed

    def followed(self, told: Told) -> None:
        """Take note that `production` was set, or stays where it is."""
        for ref in told.production:
            if told.refused is not None:
                self._stuck[ref.name] = self._production(ref.name)
                continue
            self._stuck.pop(ref.name, None)
            self.pointed = {**self.pointed, ref.name: {**self.pointed.get(ref.name, {}), DEFAULT_ALIAS: ref}}

    def _production(self, name: str) -> ComponentRef | None:
        return self.pointed.get(name, {}).get(DEFAULT_ALIAS)

    def _note_changes(self, before: Aliases, survey: Survey) -> None:
        for name in self._names:
            at = self._production(name)
            if name in survey.aliases and at != before.get(name, {}).get(DEFAULT_ALIAS):
                self._changed.add(name)
            if name in self._stuck and self._stuck[name] != at:
                del self._stuck[name]
        pointed = {(ref.name, ref.version) for aliases in self.pointed.values() for ref in aliases.values()}
        self._refusals = {
            version: refusal
            for version, refusal in self._refusals.items()
            if version in pointed or self._clock() - refusal.at < _REMEMBERED_S
        }


def by_hand(live: Rollout, moved: list[ComponentRef]) -> Plan:
    """The plan of somebody who moved `production` itself."""
    canary, shadow = live.canary, live.shadow
    return Plan(
        id=uuid.uuid4().hex,
        components=with_changes(live.components, moved),
        canary=None if canary is not None and canary.ref in moved else canary,
        shadow=None if shadow is not None and shadow.ref in moved else shadow,
    )
