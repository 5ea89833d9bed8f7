"""The gate as the controller uses it: in threads beside the event loop, what passed remembered."""

import asyncio
import logging
import time
from collections.abc import Collection, Iterable

from components.contract import ALL_PARTS, BESIDE
from components.errors import ComponentError
from components.reference import DEFAULT_ALIAS, ComponentRef, kind_of
from registry.errors import RegistryAwayError, RegistryError
from registry.gate.examine import GateSettings, passed
from registry.gate.refusals import refusals
from registry.promotion import chosen_by_start
from registry.registry import Registry
from registry.rollout.state import Plan, Rollout, State, with_changes
from registry.settings import RegistrySettings
from services.rollout.desk import Desk

_log = logging.getLogger("ray.serve")

# what could not be tried, for another reason than that the registry is away, is tried again after this long
_RETRY_S = 60.0


class Gatekeeper:
    """Tries what is to go live, and beside that, one at a time, whatever an alias points at.

    Used from one event loop only. A plan does not wait for what is tried beside it.
    """

    def __init__(
        self, desk: Desk, registry: RegistrySettings, settings: GateSettings, admitted: Iterable[ComponentRef] = ()
    ) -> None:
        """Ask short questions at the desk; a trial has its own connection, as it takes seconds to minutes.

        `admitted` is known to have passed before.
        """
        self._desk = desk
        self._registry = registry
        self._settings = settings
        # in the order in which they were admitted
        self._admitted = dict.fromkeys(admitted)
        # beside what each was refused: beside other versions it may pass
        self._refused: dict[ComponentRef, tuple[ComponentRef, ...]] = {}
        self._broke: dict[ComponentRef, float] = {}
        self._trying: asyncio.Task[None] | None = None

    @property
    def admitted(self) -> Collection[ComponentRef]:
        """The versions that are known to have passed, the newest last."""
        return self._admitted.keys()

    async def refusals(self, plan: Plan, live: Rollout) -> list[str]:
        """Why versions of a plan may not go live, in words; none where all may.

        Raises:
            RegistryError: the registry does not answer, or a version is not in it.
        """
        return await asyncio.to_thread(self._try, plan, live, live.former)

    async def admits(self, ref: ComponentRef) -> bool:
        """Whether a version that a caller asks for has passed; one that has is remembered.

        What requests bring in beside the parts, and the folder of a start has put into production, is not tried, as
        the parts are not.

        Raises:
            RegistryError: it is not known yet, and the registry does not answer.
        """
        if ref not in self._admitted:
            if not await self._desk.look_up(f"gate {ref}", lambda registry: _may_serve(registry, ref)):
                return False
            self._admitted[ref] = None
        return True

    def consider(self, pointed: Iterable[ComponentRef], live: Rollout) -> None:
        """Try in the background what aliases point at, so that requests may ask for it, until it passes or is refused.

        What was live before passes nothing by that here: nobody need have tried it.
        """
        if self._trying is not None and not self._trying.done():
            return
        for ref in pointed:
            if kind_of(ref.name) in (*ALL_PARTS, *BESIDE) and ref not in live.components and self._is_open(ref, live):
                self._trying = asyncio.create_task(self._consider(ref, live))
                return

    def close(self) -> None:
        """Try nothing more."""
        if self._trying is not None:
            self._trying.cancel()

    async def _consider(self, ref: ComponentRef, live: Rollout) -> None:
        try:
            if kind_of(ref.name) in BESIDE and await self.admits(ref):
                return
            wanted = State(components=with_changes(live.components, [ref]))
            if await asyncio.to_thread(self._try, wanted, live):
                self._refused[ref] = live.components
            else:
                self._admitted[ref] = None
        except RegistryAwayError:
            return
        except Exception as error:  # noqa: BLE001 - nobody waits for it
            ours = isinstance(error, (RegistryError, ComponentError))
            _log.warning("%s cannot be tried: %s", ref, error if ours else type(error).__name__)
            self._broke[ref] = time.monotonic()

    def _is_open(self, ref: ComponentRef, live: Rollout) -> bool:
        if ref in self._admitted or self._refused.get(ref) == live.components:
            return False
        broke = self._broke.get(ref)
        return broke is None or time.monotonic() - broke >= _RETRY_S

    def _try(self, wanted: State, live: Rollout, tried: Iterable[ComponentRef] = ()) -> list[str]:
        return refusals(Registry.connect(self._registry), wanted, live, self._settings, tried)


def _may_serve(registry: Registry, ref: ComponentRef) -> bool:
    version = registry.version(ref.name, ref.version)
    return passed(version, None) or (kind_of(ref.name) in BESIDE and chosen_by_start(version, DEFAULT_ALIAS))
