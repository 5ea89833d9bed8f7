"""The rollout controller: polls the registry, has its plans followed, and answers what new requests are pinned to.

It knows neither Ray nor MLflow; the desk asks the registry, the stages tell of the replicas.
"""

import logging
from collections.abc import Callable, Iterable, Mapping

from components.contract import Contract
from components.errors import ComponentError
from components.reference import ComponentRef, Selector
from registry.errors import RegistryAwayError, RegistryError
from registry.registry import Survey
from registry.rollout.state import PLAN_TAG, ROLLOUT_TAG, Plan, Rollout, read
from services.messages import LiveRecord, Outcome, ShadowResult
from services.metrics.rollout import RolloutMetrics
from services.rollout.admission import require_admissible
from services.rollout.alias_watch import AliasWatch, by_hand
from services.rollout.canary import CanaryWatch
from services.rollout.decision import wanted
from services.rollout.desk import Desk
from services.rollout.follower import Follower
from services.rollout.last_good import LastGood
from services.rollout.ledger import Ledger, note_plan
from services.rollout.live_rollout import LiveRollout, Step
from services.rollout.outage import Outage
from services.rollout.publication import Publication
from services.rollout.replicas import Holds, Replicas
from services.rollout.selection import Selection, Tries
from services.rollout.shadow_log import ShadowLog
from services.rollout.trust import require_known

_log = logging.getLogger("ray.serve")


class Controller:
    """Finds out what has changed, in the registry and among requests, and acts on it; used from one event loop only."""

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
        self.outage = Outage(metrics, away)
        self.replicas = Replicas(stages, prepare_s, lambda: wanted(self.record, self.preparing))
        self._desk = desk
        self._metrics = metrics
        self._aliases = AliasWatch(bundle, desk, start.aliases)
        self._selection = Selection(desk, gate, self._aliases, self.outage)
        self._ledger = Ledger(bundle, desk, self._aliases)
        self._live = LiveRollout(start.rollout, start.served)
        self._publication = Publication(bundle, self._live, desk, gate, self._aliases, self.outage, keep)
        self._follower = Follower(
            self._live,
            self._publication,
            self._ledger,
            self._aliases,
            lambda plan, before: require_admissible(bundle, plan, before, desk, gate),
            self.replicas,
            metrics,
        )
        self._plan_refused: str | None = None

    @property
    def server(self) -> str:
        """The id under which the registry is told that somebody follows the bundle's plans."""
        return self._ledger.server

    @property
    def record(self) -> LiveRecord:
        """What new requests are pinned to."""
        return self._publication.news.record

    @property
    def rollout(self) -> Rollout:
        """What is live, and how the last plan went."""
        return self._live.rollout

    @property
    def preparing(self) -> Plan | None:
        """The plan that is not live yet, None where there is none."""
        return self._follower.preparing

    @property
    def canary(self) -> CanaryWatch | None:
        """How the canary does, None without one."""
        return self._live.canary

    @property
    def shadow(self) -> ShadowLog | None:
        """How the shadow does, None without one."""
        return self._live.shadow

    @property
    def refused(self) -> Mapping[tuple[str, int], str]:
        """Versions that an alias was pointed at and that may not go live, and tags that cannot be read or written."""
        tags = ((PLAN_TAG, self._plan_refused), (ROLLOUT_TAG, self._ledger.refused))
        return {(tag, 0): reason for tag, reason in tags if reason is not None} | dict(self._aliases.refused)

    async def later(self, stamp: str | None, wait_s: float) -> LiveRecord | None:
        """The record as soon as it is another than that of `stamp`; None where it stays so for `wait_s` seconds."""
        return await self._publication.news.later(stamp, wait_s)

    async def poll(self) -> None:
        """Ask the registry what has changed, and act on it; whatever is wrong there, what is live is served on."""
        await self._publication.write()
        try:
            if self.outage.reason is not None:
                # what answers now may be another registry, or one that was set back
                await self._desk.ask(lambda registry: require_known(registry, self.bundle, self.rollout))
            await self._ledger.settle(self.rollout)
            asked = self.rollout
            survey = await self._desk.survey(self.bundle)
            await self._aliases.read(survey)
        except RegistryError as error:
            self._publication.registry_away(str(error))
            return
        self.outage.end()
        if self.rollout is not asked:
            # what the survey says of the aliases may be older than what they were set to since
            return
        self._publication.refresh()
        await self._publication.write()
        await self._react(survey)

    async def watch(self) -> None:
        """Ask the replicas what they hold, and tell them what to."""
        self.outage.measure()
        self._metrics.lives(self.record.live.pins)
        await self.replicas.hold()

    def close(self) -> None:
        """Follow nothing more."""
        self._follower.close()

    def note(self, outcomes: Iterable[Outcome]) -> None:
        """Take note of how requests ended; a canary that does too badly ends with it, at once.

        Disk and registry are told by the next poll: whoever brings the news does not wait for them.
        """
        if (reason := self._live.note(outcomes)) is None:
            return
        _log.error("%s", reason)
        self._metrics.canary_rolled_back()
        self._ledger.owe()
        self._publication.publish()

    def shadowed(self, result: ShadowResult) -> None:
        """Take note of what a shadow showed."""
        if self.shadow is not None:
            self.shadow.add(result)

    async def component(self, selector: Selector) -> tuple[ComponentRef, Contract]:
        """The version that a selector means, and its contract; aliases of the bundle as they were read last.

        Raises:
            RegistryError: there is none, it has not passed the gate, or the registry does not answer.
        """
        return await self._selection.component(selector, self.rollout, self._live.served)

    async def _react(self, survey: Survey) -> None:
        step = self._step(survey)
        if step is None:
            if not self._follower.busy and (astray := self._aliases.astray(self.rollout)):
                self._ledger.owe(astray)
            return
        if step.taken_up != step.plan.id and (step := await self._noted(step, survey)) is None:
            return
        await self._follower.follow(step)

    def _step(self, survey: Survey) -> Step | None:
        """What to follow from now on, None where there is nothing new."""
        plan = self._plan(survey)
        if plan is not None and plan.id != self.rollout.plan:
            return Step(plan, plan.id)
        if self._follower.busy or self._ledger.owes_aliases:
            return None
        moved = self._aliases.moved(self.rollout)
        if not moved:
            return None
        return Step(by_hand(self.rollout, moved), self.rollout.plan)

    def _plan(self, survey: Survey) -> Plan | None:
        try:
            plan = read(Plan, survey.tags.get(PLAN_TAG))
        except (RegistryError, ComponentError) as error:
            if self._plan_refused != str(error):
                _log.error("%s", error)
            self._plan_refused = str(error)
            return None
        self._plan_refused = None
        return plan

    async def _noted(self, step: Step, survey: Survey) -> Step | None:
        """The step of somebody who moved an alias, with its plan where all plans are; None where another has come."""
        seen = survey.tags.get(PLAN_TAG)
        try:
            there = await self._desk.ask(lambda registry: note_plan(registry, self.bundle, step.plan, seen))
        except RegistryAwayError as error:
            self._publication.registry_away(str(error))
            return None
        except RegistryError as error:
            _log.warning("what an alias was moved to is followed, and is no plan in the registry: %s", error)
            return step
        return Step(step.plan, step.plan.id) if there else None
