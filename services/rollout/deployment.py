"""The rollout controller's deployment: one replica, which every other asks what is live."""

import asyncio
import contextlib
import logging
import threading
from collections.abc import Sequence
from functools import partial
from typing import Any

from ray import serve

from components.contract import Contract
from components.errors import ComponentError
from components.reference import ComponentRef, Selector
from registry.errors import NoSuchVersionError, RegistryAwayError, RegistryError
from registry.registry import Registry
from registry.rollout.presence import leave
from registry.rollout.shadow_runs import log_shadow
from services.errors import FieldError, UnavailableError
from services.messages import LiveRecord, Outcome, ShadowResult
from services.metrics.rollout import RolloutMetrics
from services.rollout.controller import Controller
from services.rollout.desk import Desk
from services.rollout.gatekeeper import Gatekeeper
from services.rollout.last_good import keep
from services.rollout.settings import RolloutSettings
from services.rollout.stages import Stages
from services.rollout.start import begin
from services.rollout.status import status

_log = logging.getLogger("ray.serve")

# between two questions to the replicas while nothing is being prepared
_WATCH_S = 2.0
_LEAVE_S = 5.0


class RolloutDeployment:
    """Polls the registry, follows its plans, and tells the others."""

    async def __init__(self, settings: RolloutSettings) -> None:  # type: ignore[misc]  # Serve awaits it
        start, away = await asyncio.to_thread(begin, settings)
        self._settings = settings
        self._has_left = False
        self._desk = Desk(settings.registry, start.contracts)
        self._gate = Gatekeeper(self._desk, settings.registry, settings.gate, start.admitted)
        self._controller = Controller(
            settings.bundle,
            start,
            away,
            self._desk,
            Stages(serve.get_replica_context().app_name),
            self._gate,
            partial(keep, settings.memory),
            RolloutMetrics(),
            settings.prepare_s,
        )
        self._hint = asyncio.Event()
        self._tasks = [asyncio.create_task(self._poll()), asyncio.create_task(self._watch())]

    def __del__(self) -> None:
        """End what runs beside the calls; Serve calls it on the event loop, before the replica stops."""
        for task in getattr(self, "_tasks", ()):
            task.cancel()
        # once: Serve calls this, and so may the interpreter at its end, when no thread starts any more
        if hasattr(self, "_controller") and not self._has_left:
            self._has_left = True
            self._controller.close()
            self._gate.close()
            self._desk.close()
            # a registry that hangs must not keep this process
            leaving = threading.Thread(target=self._leave, name="leave", daemon=True)
            leaving.start()
            leaving.join(_LEAVE_S)

    async def record(
        self, stamp: str | None = None, wait_s: float = 0.0, outcomes: Sequence[Outcome] = ()
    ) -> LiveRecord | None:
        """What new requests are pinned to, as soon as it is another than that of `stamp`; None after `wait_s` seconds.

        `outcomes` tells how the caller's requests ended.
        """
        self._controller.note(outcomes)
        return await self._controller.later(stamp, wait_s)

    async def component(self, selector: str, field: str) -> tuple[ComponentRef, Contract]:
        """The version that a request's field asks for, and its contract.

        Raises:
            FieldError: there is no such version, or it has not passed the gate.
            UnavailableError: it is not known yet, and the registry does not answer, or not so that it can be used.
        """
        try:
            asked = Selector.parse(selector)
        except ComponentError as error:
            raise FieldError(f"{field}: {error}", field) from None
        try:
            return await self._controller.component(asked)
        except RegistryAwayError:
            raise UnavailableError(f"{field}: the registry does not answer, which alone knows this version") from None
        except NoSuchVersionError as error:
            raise FieldError(f"{field}: {error}", field) from None
        except (ComponentError, RegistryError) as error:
            # it may hold paths and addresses
            _log.error("%s cannot be looked up: %s", asked, error)
        raise UnavailableError(f"{field}: {asked} cannot be looked up just now; try again later")

    async def shadowed(self, result: ShadowResult) -> None:
        """Take note of what a shadow showed."""
        self._controller.shadowed(result)

    async def status(self) -> dict[str, Any]:
        """Everything about the rollout, as JSON has it."""
        return status(self._controller)

    async def hint(self) -> None:
        """Ask the registry at once, as something has changed there."""
        self._hint.set()

    async def check_health(self) -> None:
        """Tell Serve whether this replica can still work.

        Raises:
            RuntimeError: one of its tasks has ended.
        """
        for task in self._tasks:
            if task.done():
                raise RuntimeError("the rollout controller follows nothing any more")

    def _leave(self) -> None:
        with contextlib.suppress(RegistryError):
            leave(Registry.connect(self._settings.registry), self._settings.bundle, self._controller.server)

    async def _poll(self) -> None:
        while True:
            await self._controller.poll()
            rollout, aliases = self._controller.rollout, self._controller.record.aliases
            if self._controller.outage.reason is None and self._controller.preparing is None:
                self._gate.consider([ref for at in aliases.values() for ref in at.values()], rollout)
                await self._tell_of_shadow()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._hint.wait(), self._settings.poll_s)
            self._hint.clear()

    async def _watch(self) -> None:
        while True:
            await self._controller.watch()
            await asyncio.sleep(_WATCH_S)

    async def _tell_of_shadow(self) -> None:
        shadow = self._controller.shadow
        if shadow is None or not shadow.waiting:
            return
        results, shadow.waiting = shadow.waiting, []
        pictures = [_figures(result) for result in results]
        first = shadow.logged
        try:
            shadow.run = await self._desk.ask(
                lambda registry: log_shadow(registry, shadow.ref, shadow.run, first, pictures)
            )
        except RegistryError as error:
            _log.warning("what the shadow %s showed is not in MLflow: %s", shadow.ref, error)
            shadow.waiting = results + shadow.waiting
            if not isinstance(error, RegistryAwayError):
                # somebody may have taken the run away; the next attempt makes another
                shadow.run = None
            return
        shadow.logged += len(results)


def _figures(result: ShadowResult) -> dict[str, float]:
    found = {"failed": float(result.failed is not None), "live_seconds": result.live_seconds}
    if result.psnr_db is not None and result.seconds is not None:
        # MLflow keeps no infinity
        found |= {"psnr_db": min(result.psnr_db, 200.0), "seconds": result.seconds}
    return found
