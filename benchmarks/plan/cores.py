"""Cores that several simulated pieces of work share, as an operating system shares them."""

import heapq
from itertools import count

import simpy


class OneAtATime:
    """A core for whoever never has more than one piece of work: the same as `Cores`, in a third of the events."""

    def __init__(self, env: simpy.Environment) -> None:
        self._env = env

    def work(self, seconds: float) -> simpy.Event:
        """An event at the end of a piece of work that takes so many seconds."""
        return self._env.timeout(seconds)


class Cores:
    """`number` cores for pieces of work of one thread each: every piece goes on at the same speed, none at more than
    that of one core.

    This is processor sharing (L. Kleinrock, Queueing Systems II, 1976, section 4.4): kept is the work `done` that each
    piece has had which has been there for ever, so that a piece ends when that has grown by its own seconds.
    """

    def __init__(self, env: simpy.Environment, number: int) -> None:
        self._env, self._number = env, number
        self._done = 0.0
        self._seen = 0.0
        self._ends: list[tuple[float, int, simpy.Event]] = []
        self._order = count()
        self._plan = 0

    def work(self, seconds: float) -> simpy.Event:
        """An event at the end of a piece of work that takes so many seconds of a core."""
        self._advance()
        ended = self._env.event()
        heapq.heappush(self._ends, (self._done + seconds, next(self._order), ended))
        self._replan()
        return ended

    @property
    def _speed(self) -> float:
        return min(1.0, self._number / len(self._ends))

    def _advance(self) -> None:
        passed = self._env.now - self._seen
        if self._ends and passed:
            self._done += passed * self._speed
        self._seen = self._env.now

    def _replan(self) -> None:
        self._plan += 1
        if self._ends:
            wait = max(0.0, self._ends[0][0] - self._done) / self._speed
            due = self._env.timeout(wait, value=self._plan)
            due.callbacks.append(self._due)

    def _due(self, event: simpy.Event) -> None:
        # something came or ended since this was planned
        if event.value != self._plan:
            return
        self._advance()
        first = self._ends[0][0]
        self._done = max(self._done, first)
        while self._ends and self._ends[0][0] <= self._done:
            heapq.heappop(self._ends)[2].succeed()
        self._replan()
