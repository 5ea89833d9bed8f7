"""Which version somebody means, and whether it may serve those who ask for it."""

from collections.abc import Collection
from typing import Protocol

from components.contract import Contract
from components.reference import DEFAULT_ALIAS, ComponentRef, Selector
from registry.errors import NoSuchVersionError, RegistryAwayError
from registry.rollout.state import Plan, Rollout
from services.rollout.alias_watch import AliasWatch
from services.rollout.desk import Desk
from services.rollout.outage import Outage


class Tries(Protocol):
    """What is asked of the gate, see `Gatekeeper`."""

    @property
    def admitted(self) -> Collection[ComponentRef]:
        """The versions that are known to have passed."""

    async def refusals(self, plan: Plan, live: Rollout) -> list[str]:
        """Why versions of a plan may not go live, in words; none where all may."""

    async def admits(self, ref: ComponentRef) -> bool:
        """Whether a version may serve requests that ask for it."""


class Selection:
    """Resolves what callers write, by what is known already where that will do.

    While the registry is away it is not asked: questions of callers would stand before the one that finds it back.
    """

    def __init__(self, desk: Desk, gate: Tries, aliases: AliasWatch, outage: Outage) -> None:
        self._desk = desk
        self._gate = gate
        self._aliases = aliases
        self._outage = outage

    async def component(
        self, selector: Selector, live: Rollout, served: Collection[ComponentRef]
    ) -> tuple[ComponentRef, Contract]:
        """The version that a selector means, and its contract; what is or was live need not pass the gate any more.

        `served` was live at some time: latents that are kept may be of it, and nothing else decodes them.
        `production` is what is live, also before the alias has followed.

        Raises:
            NoSuchVersionError: there is none, or it has not passed the gate.
            RegistryError: the registry cannot be used; a RegistryAwayError where it does not answer.
        """
        current = live.ref(selector.name) if selector.alias == DEFAULT_ALIAS else None
        ref = await self._meant(selector) if current is None else current
        if ref not in (*live.refs, *live.former, *served) and ref not in self._gate.admitted:
            self._require_registry()
            if not await self._gate.admits(ref):
                raise NoSuchVersionError.untried(ref)
        return ref, self._desk.contracts[ref]

    async def _meant(self, selector: Selector) -> ComponentRef:
        if selector.version is not None:
            return await self._version(selector.name, selector.version)
        aliases = self._aliases.pointed.get(selector.name)
        if aliases is None:
            self._require_registry()
            ref = await self._desk.look_up(f"alias {selector}", lambda registry: registry.resolve(selector))
            return await self._version(ref.name, ref.version)
        if (known := aliases.get(str(selector.alias))) is None:
            raise NoSuchVersionError.without_alias(selector.name, str(selector.alias), aliases)
        return known

    async def _version(self, name: str, version: int) -> ComponentRef:
        if (known := self._desk.known(name, version)) is not None:
            return known
        self._require_registry()
        return await self._desk.pin_for_caller(name, version)

    def _require_registry(self) -> None:
        if self._outage.reason is not None:
            raise RegistryAwayError(self._outage.reason)
