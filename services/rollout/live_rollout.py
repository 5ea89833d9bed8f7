"""What is live, and what becomes of it: a plan begins, goes live or is stopped, and a canary ends by itself."""

from collections.abc import Iterable
from typing import NamedTuple

from components.reference import ComponentRef
from registry.rollout.outcome import followed
from registry.rollout.state import Canary, Plan, Rollout
from services.messages import Outcome
from services.rollout.canary import watch_of
from services.rollout.last_good import served_since
from services.rollout.shadow_log import log_of

_LONGEST_REASON = 1000


class Step(NamedTuple):
    """A plan to follow, and the id of the last plan that people wrote, which it is or goes beyond."""

    plan: Plan
    taken_up: str | None


class _RolledBack(NamedTuple):
    canary: Canary
    reason: str


class LiveRollout:
    """The rollout from one change to the next; it tells nobody.

    `rollout` is what is live and how the last plan went, `served` what was live at some time, `canary` and `shadow` how
    those do, each None where there is none.
    """

    def __init__(self, rollout: Rollout, served: Iterable[ComponentRef]) -> None:
        self.rollout = rollout
        self.served = served_since(served, rollout)
        self.canary = watch_of(rollout, None)
        self.shadow = log_of(rollout, None)
        self._rolled_back: _RolledBack | None = None

    def begin(self, step: Step) -> Rollout:
        """Take a plan up; what was before it comes back, which its end asks for."""
        before = self.rollout
        self.rollout = before.model_copy(update={"plan": step.taken_up, "state": "preparing", "reason": None})
        return before

    def go_live(self, step: Step, before: Rollout) -> None:
        """Have live what the plan says, without a canary that ended by itself after the plan was written."""
        plan, reason = step.plan, None
        if self._rolled_back is not None and plan.canary == self._rolled_back.canary:
            if (plan.components, plan.shadow) != (before.components, before.shadow):
                # it only goes on with the canary as that was when it was written
                plan, reason = plan.model_copy(update={"canary": None}), self._rolled_back.reason
            self._rolled_back = None
        self.rollout = followed(before, plan).model_copy(update={"plan": step.taken_up, "reason": reason})
        self.served = served_since(self.served, self.rollout)
        self.canary, self.shadow = watch_of(self.rollout, self.canary), log_of(self.rollout, self.shadow)

    def stop(self, step: Step, before: Rollout, reason: str) -> None:
        """Give the plan up for good; what was live stays so."""
        self.go_back(before)
        self.rollout = self.rollout.model_copy(
            update={"plan": step.taken_up, "state": "stopped", "reason": reason[:_LONGEST_REASON]}
        )

    def go_back(self, before: Rollout) -> None:
        """Undo the beginning of a plan; a canary that has ended meanwhile stays so."""
        has_ended = before.canary is not None and self.rollout.canary is None
        ended = {"canary": None, "reason": self.rollout.reason} if has_ended else {}
        self.rollout = before.model_copy(update=ended)

    def note(self, outcomes: Iterable[Outcome]) -> str | None:
        """Take note of how requests ended; why the canary has ended with it, None where none has."""
        if self.canary is None:
            return None
        self.canary.add(outcomes)
        reason = self.canary.too_bad()
        if reason is not None:
            self._rolled_back = _RolledBack(self.canary.canary, reason)
            self.rollout = self.rollout.model_copy(update={"canary": None, "reason": reason})
            self.canary = None
        return reason
