"""The gate as the controller uses it: in threads beside the event loop, what passed remembered."""

import asyncio
import logging
from collections.abc import Collection, Iterable

from components.contract import PARTS
from components.errors import ComponentError
from components.reference import ComponentRef, kind_of
from registry.errors import RegistryAwayError, RegistryError
from registry.gate import GateSettings, passed
from registry.refusals import refusals
from registry.registry import Registry
from registry.rollout import Plan, Rollout, State, with_changes
from registry.settings import RegistrySettings
from services.rollout.desk import Desk

_log = logging.getLogger("ray.serve")


class Gatekeeper:
    """Tries what is to go live, and beside that, one at a time, whatever an alias points at.

    Used from one event loop only. A plan does not wait for what is tried beside it.
    """

    def __init__(self, desk: Desk, registry: RegistrySettings, settings: GateSettings) -> None:
        """Ask short questions at the desk; a trial has its own connection, as it takes seconds to minutes."""
        self._desk = desk
        self._registry = registry
        self._settings = settings
        self._admitted: set[ComponentRef] = set()
        self._considered: set[ComponentRef] = set()
        self._trying: asyncio.Task[None] | None = None

    @property
    def admitted(self) -> Collection[ComponentRef]:
        """The versions that are known to have passed."""
        return self._admitted

    async def refusals(self, plan: Plan, live: Rollout) -> list[str]:
        """Why versions of a plan may not go live, in words; none where all may.

        Raises:
            RegistryError: the registry does not answer, or a version is not in it.
        """
        return await asyncio.to_thread(self._try, plan, live)

    async def admits(self, ref: ComponentRef) -> bool:
        """Whether a version has passed; one that has is remembered.

        Raises:
            RegistryError: it is not known yet, and the registry does not answer.
        """
        if ref not in self._admitted:
            if not await self._desk.ask(lambda registry: passed(registry.version(ref.name, ref.version), None)):
                return False
            self._admitted.add(ref)
        return True

    def consider(self, pointed: Iterable[ComponentRef], live: Rollout) -> None:
        """Try in the background, each once, what aliases point at, so that requests may ask for it."""
        if self._trying is not None and not self._trying.done():
            return
        for ref in pointed:
            if ref not in self._considered and ref not in live.components and kind_of(ref.name) in PARTS:
                self._trying = asyncio.create_task(self._consider(ref, live))
                return

    def close(self) -> None:
        """Try nothing more."""
        if self._trying is not None:
            self._trying.cancel()

    async def _consider(self, ref: ComponentRef, live: Rollout) -> None:
        try:
            wanted = State(components=with_changes(live.components, [ref]))
            if not await asyncio.to_thread(self._try, wanted, live):
                # what was live before is not tried again, and need not have passed
                await self.admits(ref)
        except RegistryAwayError:
            return
        except Exception as error:  # noqa: BLE001 - nobody waits for it, and the next poll would only try it again
            ours = isinstance(error, (RegistryError, ComponentError))
            _log.warning("%s cannot be tried: %s", ref, error if ours else type(error).__name__)
        self._considered.add(ref)

    def _try(self, wanted: State, live: Rollout) -> list[str]:
        return refusals(Registry.connect(self._registry), wanted, live, self._settings, live.former)
