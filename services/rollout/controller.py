"""The rollout controller: follows plans, has replicas prepare, and decides what new requests are pinned to.

It knows neither Ray nor MLflow; the desk asks the registry, the stages tell of the replicas.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from components.contract import Contract
from components.errors import ComponentError
from components.reference import ComponentRef, Selector
from registry.errors import RegistryAwayError, RegistryError
from registry.registry import Survey
from registry.rollout.plans import followed
from registry.rollout.state import PLAN_TAG, ROLLOUT_TAG, Canary, Plan, Rollout, State, read
from services.messages import LiveRecord, Outcome, ShadowResult
from services.metrics import RolloutMetrics
from services.rollout.admission import require_admissible
from services.rollout.alias_watch import AliasWatch, by_hand
from services.rollout.canary import watch_of
from services.rollout.decision import decide, fallback_of, wanted
from services.rollout.desk import Desk
from services.rollout.last_good import MOST_REMEMBERED, LastGood, served_since
from services.rollout.ledger import Ledger, note_plan
from services.rollout.memory import Memory
from services.rollout.news import News
from services.rollout.outage import Outage
from services.rollout.replicas import Holds, Replicas
from services.rollout.selection import Selection, Tries
from services.rollout.shadow_log import log_of
from services.rollout.trust import require_known

_log = logging.getLogger("ray.serve")

# how often a plan is taken up again that fails for want of the registry, which answers in between
_MOST_TRIES = 5
_LONGEST_REASON = 1000


class _Step(NamedTuple):
    """A plan to follow, and the id of the last plan that people wrote, which it is or goes beyond."""

    plan: Plan
    taken_up: str | None


class Controller:
    """Holds the decision, and changes it; used from one event loop only.

    `rollout` is what is live and how the last plan went, `preparing` the plan that is being followed, `canary` and
    `shadow` how those do; each None where there is none.
    """

    def __init__(
        self,
        bundle: str,
        start: LastGood,
        away: str | None,
        desk: Desk,
        stages: Holds,
        gate: Tries,
        keep: Callable[[LastGood], object],
        metrics: RolloutMetrics,
        prepare_s: float,
    ) -> None:
        """Go on from `start`; `away` says why the registry does not answer, None where it does.

        `keep` writes on disk what the next start may need; `prepare_s` is what a replica has to prepare a version.
        """
        self.bundle = bundle
        self.rollout = start.rollout
        self.preparing: Plan | None = None
        self.outage = Outage(metrics, away)
        self.replicas = Replicas(stages, prepare_s, lambda: wanted(self.record, self.preparing))
        self._desk = desk
        self._gate = gate
        self._metrics = metrics
        self._aliases = AliasWatch(bundle, desk, start.aliases)
        self._selection = Selection(desk, gate, self._aliases, self.outage)
        self._ledger = Ledger(bundle, desk)
        self._memory = Memory(keep)
        self._served = served_since(start.served, start.rollout)
        self._kept = start.admitted
        self._complaints: dict[tuple[str, int], str] = {}
        self._following: asyncio.Task[None] | None = None
        self._fruitless: list[State] = []
        self._rolled_back: tuple[Canary, str] | None = None
        self.canary = watch_of(self.rollout, None)
        self.shadow = log_of(self.rollout, None)
        self._news = News(self._decide())

    @property
    def server(self) -> str:
        """The id under which the registry is told that somebody follows the bundle's plans."""
        return self._ledger.server

    @property
    def record(self) -> LiveRecord:
        """What new requests are pinned to."""
        return self._news.record

    @property
    def refused(self) -> Mapping[tuple[str, int], str]:
        """Versions that an alias was pointed at and that may not go live, and tags that cannot be read or written."""
        return self._complaints | dict(self._aliases.refused)

    async def later(self, stamp: str | None, wait_s: float) -> LiveRecord | None:
        """The record as soon as it is another than that of `stamp`; None where it stays so for `wait_s` seconds."""
        return await self._news.later(stamp, wait_s)

    async def poll(self) -> None:
        """Ask the registry what has changed, and act on it; whatever is wrong there, what is live is served on."""
        await self._memory.write()
        try:
            if self.outage.reason is not None:
                # what answers now may be another registry, or one that was set back
                await self._desk.ask(lambda registry: require_known(registry, self.bundle, self.rollout))
            await self._settle()
            asked = self.rollout
            survey = await self._desk.survey(self.bundle)
            await self._aliases.read(survey)
        except RegistryError as error:
            self._registry_away(str(error))
            return
        self.outage.end()
        if self.rollout is not asked:
            # what the survey says of the aliases may be older than what they were set to since
            return
        told = self.record
        if (told.aliases, told.fallback, told.away_since) != (self._aliases.pointed, self._fallback(), None):
            self._publish()
        if self._kept != self._admitted():
            self._keep()
        await self._memory.write()
        await self._react(survey)

    async def watch(self) -> None:
        """Ask the replicas what they hold, and tell them what to."""
        self.outage.measure()
        await self.replicas.hold()

    def close(self) -> None:
        """Follow nothing more."""
        if self._following is not None:
            self._following.cancel()

    def note(self, outcomes: Iterable[Outcome]) -> None:
        """Take note of how requests ended; a canary that does too badly ends with it, at once.

        Disk and registry are told by the next poll: whoever brings the news does not wait for them.
        """
        if self.canary is None:
            return
        self.canary.add(outcomes)
        if (reason := self.canary.too_bad()) is None:
            return
        _log.error("%s", reason)
        self._metrics.canary_rolled_back()
        self._rolled_back = self.canary.canary, reason
        self.rollout = self.rollout.model_copy(update={"canary": None, "reason": reason})
        self.canary = None
        self._ledger.owe()
        self._publish()

    def shadowed(self, result: ShadowResult) -> None:
        """Take note of what a shadow showed."""
        if self.shadow is not None:
            self.shadow.add(result)

    async def component(self, selector: Selector) -> tuple[ComponentRef, Contract]:
        """The version that a selector means, and its contract; aliases of the bundle as they were read last.

        Raises:
            RegistryError: there is none, it has not passed the gate, or the registry does not answer.
        """
        return await self._selection.component(selector, self.rollout, self._served)

    # --- what the registry says

    def _registry_away(self, reason: str) -> None:
        self.outage.begin(reason)
        if self.record.away_since is None:
            self._publish()

    async def _react(self, survey: Survey) -> None:
        step = self._step(survey)
        if step is None:
            if self._following is None and (astray := self._aliases.astray(self.rollout)):
                self._ledger.owe(astray)
            return
        if step.taken_up != step.plan.id and (step := await self._noted(step, survey)) is None:
            return
        if self._following is not None:
            # what has gone live is told to disk and registry first
            if self.preparing is not None:
                self._following.cancel()
            await asyncio.wait([self._following])
        self._following = asyncio.create_task(self._follow(step))
        self._following.add_done_callback(self._followed)

    async def _noted(self, step: _Step, survey: Survey) -> _Step | None:
        """The step of somebody who moved an alias, with its plan where all plans are; None where another has come."""
        seen = survey.tags.get(PLAN_TAG)
        try:
            there = await self._desk.ask(lambda registry: note_plan(registry, self.bundle, step.plan, seen))
        except RegistryAwayError as error:
            self._registry_away(str(error))
            return None
        except RegistryError as error:
            _log.warning("what an alias was moved to is followed, and is no plan in the registry: %s", error)
            return step
        return _Step(step.plan, step.plan.id) if there else None

    def _step(self, survey: Survey) -> _Step | None:
        """What to follow from now on, None where there is nothing new."""
        try:
            plan = read(Plan, survey.tags.get(PLAN_TAG))
            self._complaints.pop((PLAN_TAG, 0), None)
        except (RegistryError, ComponentError) as error:
            self._complain(PLAN_TAG, str(error))
            plan = None
        if plan is not None and plan.id != self.rollout.plan:
            return _Step(plan, plan.id)
        if self._following is not None or self._ledger.owes_aliases:
            return None
        moved = self._aliases.moved(self.rollout)
        if not moved:
            return None
        return _Step(by_hand(self.rollout, moved), self.rollout.plan)

    def _complain(self, tag: str, reason: str) -> None:
        if self._complaints.get((tag, 0)) != reason:
            _log.error("%s", reason)
        self._complaints[tag, 0] = reason

    # --- following a plan

    async def _follow(self, step: _Step) -> None:
        before = self.rollout
        self.preparing = step.plan
        self.rollout = before.model_copy(update={"plan": step.taken_up, "state": "preparing", "reason": None})
        self._ledger.owe()
        try:
            await self._settle()
            new = await require_admissible(self.bundle, step.plan, before, self._desk, self._gate)
            await self.replicas.prepare(new)
        except asyncio.CancelledError:
            self._back_to(before)
            raise
        except RegistryAwayError as error:
            await self._try_again(step, before, str(error))
        except Exception as error:  # noqa: BLE001 - whatever a plan breaks, what was live is served on
            ours = isinstance(error, (RegistryError, ComponentError))
            await self._stop(step, before, str(error) if ours else f"something went wrong: {type(error).__name__}")
        else:
            await self._go_live(step, before)

    async def _go_live(self, step: _Step, before: Rollout) -> None:
        plan, reason = step.plan, None
        if self._rolled_back is not None and plan.canary == self._rolled_back[0]:
            if (plan.components, plan.shadow) != (before.components, before.shadow):
                # it only goes on with the canary as that was when it was written
                plan, reason = plan.model_copy(update={"canary": None}), self._rolled_back[1]
            self._rolled_back = None
        self.rollout = followed(before, plan).model_copy(update={"plan": step.taken_up, "reason": reason})
        self._served = served_since(self._served, self.rollout)
        self._ledger.owe(ref for ref in plan.components if ref not in before.components)
        self._fruitless = []
        self.canary, self.shadow = watch_of(self.rollout, self.canary), log_of(self.rollout, self.shadow)
        self._metrics.rolled_out("live")
        _log.info("live: %s", ", ".join(map(str, plan.components)))
        await self._changed()

    async def _stop(self, step: _Step, before: Rollout, reason: str) -> None:
        _log.error("the rollout was stopped, what was live is served on: %s", reason)
        self._metrics.rolled_out("stopped")
        self._back_to(before)
        self.rollout = self.rollout.model_copy(
            update={"plan": step.taken_up, "state": "stopped", "reason": reason[:_LONGEST_REASON]}
        )
        new = [ref for ref in step.plan.components if ref not in before.components]
        pointed = self._aliases.refuse(new, reason)
        self._ledger.owe(live for ref in pointed if (live := before.ref(ref.name)) is not None)
        await self._changed()

    async def _try_again(self, step: _Step, before: Rollout, reason: str) -> None:
        """Take the plan up again once the registry answers; not for ever, as it may be a version's files alone."""
        asked = State(components=step.plan.components, canary=step.plan.canary, shadow=step.plan.shadow)
        self._fruitless = [*(tried for tried in self._fruitless if tried == asked), asked]
        if len(self._fruitless) >= _MOST_TRIES:
            self._fruitless = []
            await self._stop(step, before, reason)
            return
        self._back_to(before)
        self.preparing = None
        self._ledger.owe()
        self._registry_away(reason)

    def _back_to(self, before: Rollout) -> None:
        """Undo the beginning of a plan; a canary that has ended meanwhile stays so."""
        ended = {"canary": None, "reason": self.rollout.reason} if self._canary_ended(before) else {}
        self.rollout = before.model_copy(update=ended)

    def _canary_ended(self, before: Rollout) -> bool:
        return before.canary is not None and self.rollout.canary is None

    def _followed(self, task: asyncio.Task[None]) -> None:
        if self._following is task:
            self._following = self.preparing = None
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("a plan was not followed to its end: %s", type(error).__name__)

    # --- the decision

    def _decide(self) -> LiveRecord:
        contracts, aliases = self._desk.contracts, self._aliases.pointed
        return decide(self.bundle, self.rollout, contracts, aliases, self._fallback(), self.outage.since)

    def _fallback(self) -> ComponentRef | None:
        contracts, aliases = self._desk.contracts, self._aliases.pointed
        admitted = {*self._served, *self._gate.admitted}
        return fallback_of(self.bundle, self.rollout, contracts, aliases, admitted)

    def _admitted(self) -> tuple[ComponentRef, ...]:
        return tuple(self._gate.admitted)[-MOST_REMEMBERED:]

    async def _changed(self) -> None:
        """Publish the decision, then remember it on disk, and have the registry follow."""
        self.preparing = None
        self._publish()
        await self._memory.write()
        try:
            await self._settle()
        except RegistryAwayError as error:
            self._registry_away(str(error))

    def _publish(self) -> None:
        self._news.tell(self._decide())
        self._keep()

    def _keep(self) -> None:
        contracts, aliases, self._kept = self._desk.contracts, self._aliases.pointed, self._admitted()
        self._memory.keep(self.rollout, aliases, contracts, served=self._served, admitted=self._kept)

    async def _settle(self) -> None:
        """Have the registry say what is: aliases follow the record, and the record is written.

        Raises:
            RegistryAwayError: it does not answer; what is owed is kept.
        """
        try:
            told = await self._ledger.settle(self.rollout)
            self._complaints.pop((ROLLOUT_TAG, 0), None)
        except RegistryAwayError:
            raise
        except RegistryError as error:
            self._complain(ROLLOUT_TAG, str(error))
            return
        self._aliases.followed(told)
