"""Following a plan, from where it is taken up to where it is live or stopped."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from components.errors import ComponentError
from components.reference import ComponentRef
from registry.errors import RegistryAwayError, RegistryError
from registry.rollout.state import Plan, Rollout, State
from services.metrics.rollout import RolloutMetrics
from services.rollout.alias_watch import AliasWatch
from services.rollout.ledger import Ledger
from services.rollout.live_rollout import LiveRollout, Step
from services.rollout.publication import Publication
from services.rollout.replicas import Replicas

_log = logging.getLogger("ray.serve")

# how often a plan is taken up again that fails for want of the registry, which answers in between
_MOST_TRIES = 5


class Follower:
    """Follows one plan at a time; used from one event loop only.

    `preparing` is the plan until it is live or stopped, None where there is none.
    """

    def __init__(
        self,
        live: LiveRollout,
        publication: Publication,
        ledger: Ledger,
        aliases: AliasWatch,
        admit: Callable[[Plan, Rollout], Awaitable[list[ComponentRef]]],
        replicas: Replicas,
        metrics: RolloutMetrics,
    ) -> None:
        """Change `live`, and tell `publication` and `ledger` of that.

        `admit` gives the versions of a plan that are not live yet, or raises a RegistryError that says why not.
        """
        self.preparing: Plan | None = None
        self._live = live
        self._publication = publication
        self._ledger = ledger
        self._aliases = aliases
        self._admit = admit
        self._replicas = replicas
        self._metrics = metrics
        self._following: asyncio.Task[None] | None = None
        self._fruitless: list[State] = []

    @property
    def busy(self) -> bool:
        """Whether a plan is followed; also one that went live or was stopped, until disk and registry are told."""
        return self._following is not None

    async def follow(self, step: Step) -> None:
        """Begin to follow a plan; one that is in preparation gives way to it."""
        if self._following is not None:
            # what has gone live is told to disk and registry first
            if self.preparing is not None:
                self._following.cancel()
            await asyncio.wait([self._following])
        self._following = asyncio.create_task(self._follow(step))
        self._following.add_done_callback(self._followed)

    def close(self) -> None:
        """Follow nothing more."""
        if self._following is not None:
            self._following.cancel()

    async def _follow(self, step: Step) -> None:
        self.preparing = step.plan
        before = self._live.begin(step)
        self._ledger.owe()
        try:
            await self._ledger.settle(self._live.rollout)
            new = await self._admit(step.plan, before)
            await self._replicas.prepare(new)
        except asyncio.CancelledError:
            self._live.go_back(before)
            raise
        except RegistryAwayError as error:
            await self._try_again(step, before, str(error))
        except Exception as error:  # noqa: BLE001 - whatever a plan breaks, what was live is served on
            ours = isinstance(error, (RegistryError, ComponentError))
            await self._stop(step, before, str(error) if ours else f"something went wrong: {type(error).__name__}")
        else:
            await self._go_live(step, before)

    async def _go_live(self, step: Step, before: Rollout) -> None:
        plan = step.plan
        self._live.go_live(step, before)
        self._ledger.owe(ref for ref in plan.components if ref not in before.components)
        self._fruitless = []
        self._metrics.rolled_out("live")
        _log.info("live: %s", ", ".join(map(str, plan.components)))
        await self._tell()

    async def _stop(self, step: Step, before: Rollout, reason: str) -> None:
        _log.error("the rollout was stopped, what was live is served on: %s", reason)
        self._metrics.rolled_out("stopped")
        self._live.stop(step, before, reason)
        new = [ref for ref in step.plan.components if ref not in before.components]
        pointed = self._aliases.refuse(new, reason)
        self._ledger.owe(live for ref in pointed if (live := before.ref(ref.name)) is not None)
        await self._tell()

    async def _try_again(self, step: Step, before: Rollout, reason: str) -> None:
        """Take the plan up again once the registry answers; not for ever, as it may be a version's files alone."""
        asked = State(components=step.plan.components, canary=step.plan.canary, shadow=step.plan.shadow)
        self._fruitless = [*(tried for tried in self._fruitless if tried == asked), asked]
        if len(self._fruitless) >= _MOST_TRIES:
            self._fruitless = []
            await self._stop(step, before, reason)
            return
        self._live.go_back(before)
        self.preparing = None
        self._ledger.owe()
        self._publication.registry_away(reason)

    async def _tell(self) -> None:
        """Publish what has come of the plan, then remember it on disk, and have the registry follow."""
        # a newer plan waits for this one from here on
        self.preparing = None
        self._publication.publish()
        await self._publication.write()
        try:
            await self._ledger.settle(self._live.rollout)
        except RegistryAwayError as error:
            self._publication.registry_away(str(error))

    def _followed(self, task: asyncio.Task[None]) -> None:
        if self._following is task:
            self._following = self.preparing = None
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("a plan was not followed to its end: %s", type(error).__name__)
