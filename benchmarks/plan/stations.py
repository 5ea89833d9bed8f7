"""Deployments whose replicas serve calls, each for as long as was measured."""

import random
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

import simpy

from benchmarks.plan.cores import Cores, OneAtATime
from benchmarks.plan.times import SizeTimes
from diffusion.batcher import Limits, StepBatcher, Ticket
from services.served_rate import ServedRate

Steps: TypeAlias = Generator[simpy.Event, Any, Any]
Work = TypeVar("Work")


class Replica(ABC, Generic[Work]):
    """One replica: how many calls it has, and for how long it has been at work."""

    def __init__(self, env: simpy.Environment, most: int) -> None:
        self._env = env
        self.most = most
        self.ongoing = 0
        self._worked_s = 0.0
        self._since: float | None = None

    @abstractmethod
    def serve(self, work: Work) -> Steps:
        """The steps of one call."""

    @property
    def worked_s(self) -> float:
        """Seconds in which it worked on something."""
        return self._worked_s + (0.0 if self._since is None else self._env.now - self._since)

    def _begin(self) -> None:
        if self._since is None:
            self._since = self._env.now

    def _pause(self) -> None:
        self._worked_s, self._since = self.worked_s, None


class Worker(Replica[float]):
    """A replica whose calls each take some seconds of a core."""

    def __init__(self, env: simpy.Environment, most: int, cores: Cores | OneAtATime) -> None:
        super().__init__(env, most)
        self._cores = cores

    def serve(self, work: float) -> Steps:
        """Work for so many seconds of a core."""
        self._begin()
        yield self._cores.work(work)
        # this call is counted until it is over
        if self.ongoing == 1:
            self._pause()


@dataclass(frozen=True, slots=True)
class Walk:
    """A picture for the denoiser: what its policy knows of it, and the times of its size."""

    ticket: Ticket
    times: SizeTimes


class DenoiserReplica(Replica[Walk]):
    """A replica of the denoiser: the policy that it serves by, and runs that take as long as was measured."""

    def __init__(self, env: simpy.Environment, most: int, cores: Cores | OneAtATime, limits: Limits) -> None:
        super().__init__(env, most)
        self._cores = cores
        self._batcher = StepBatcher(limits)
        self._rate = ServedRate()
        self._walks: dict[str, tuple[Walk, simpy.Event]] = {}
        self._idle: simpy.Event | None = None
        self._env.process(self._drive())

    def serve(self, work: Walk) -> Steps:
        """Walk to the end.

        Raises:
            OverloadedError: as much waits as may wait.
        """
        self._batcher.add(work.ticket)
        ended = self._env.event()
        self._walks[work.ticket.id] = (work, ended)
        if self._idle is not None:
            self._idle.succeed()
            self._idle = None
        yield ended

    @property
    def work(self) -> float:
        """Rows times latent pixels times evaluations that are still to be done."""
        return float(self._batcher.queued)

    @property
    def speed(self) -> float:
        """How much of that was done in a second of late; 0 before there was a run."""
        return self._rate.per_second or 0.0

    def _drive(self) -> Steps:
        while True:
            run = self._batcher.schedule()
            if not run:
                self._pause()
                self._idle = self._env.event()
                yield self._idle
                continue
            self._begin()
            began = self._env.now
            # all of a run are of one size
            times = self._walks[run.tickets[0].id][0].times
            yield self._cores.work(times.run(run.rows))
            self._rate.served(run.cost, self._env.now - began)
            self._batcher.done([ticket.again() for ticket in run.tickets if ticket.evaluations > 1])
            for ticket in run.tickets:
                if ticket.evaluations == 1:
                    self._walks.pop(ticket.id)[1].succeed()


AnyReplica = TypeVar("AnyReplica", bound=Replica[Any])


class Deployment(Generic[AnyReplica]):
    """Replicas that calls are spread over as Serve does: of two by chance the one that has fewer.

    (M. Mitzenmacher, The Power of Two Choices in Randomized Load Balancing, 2001.) Where both are full the call goes
    to any that is not, and waits where there is none.
    """

    def __init__(
        self, env: simpy.Environment, name: str, begin: Callable[[], AnyReplica], count: int, rng: random.Random
    ) -> None:
        self.name = name
        self._env, self._begin, self._rng = env, begin, rng
        self._replicas = [begin() for _ in range(count)]
        # those that are to stop once their calls have ended
        self._leaving: list[AnyReplica] = []
        self._waiting: deque[simpy.Event] = deque()
        self._starting = 0
        self._unwanted = 0
        self._ordered_s = 0.0
        self._worked_s = 0.0
        self._seen = 0.0
        self.stayed_s = 0.0
        self.calls = 0
        # the seconds at which their number changed, and the number from then on
        self.history: list[tuple[float, int]] = [(env.now, count)]

    @property
    def replicas(self) -> tuple[AnyReplica, ...]:
        """Those that take calls."""
        return tuple(self._replicas)

    @property
    def count(self) -> int:
        """How many take calls."""
        return len(self._replicas)

    @property
    def target(self) -> int:
        """How many take calls, or will once they have started."""
        return len(self._replicas) + self._starting - self._unwanted

    @property
    def ongoing(self) -> int:
        """Calls that are served, or wait."""
        return len(self._waiting) + sum(each.ongoing for each in self._replicas)

    @property
    def waiting(self) -> int:
        """Calls that no replica has taken."""
        return len(self._waiting)

    @property
    def paid_s(self) -> float:
        """Seconds of all replicas together, from when each was asked for until it was gone."""
        count = len(self._replicas) + len(self._leaving) + self._starting
        return self._ordered_s + count * (self._env.now - self._seen)

    @property
    def worked_s(self) -> float:
        """Seconds in which replicas were at work, of all together."""
        return self._worked_s + sum(each.worked_s for each in (*self._replicas, *self._leaving))

    def call(self, work: Any) -> Steps:
        """The steps of one call; what a replica raises is raised."""
        began = self._env.now
        replica = yield from self._taken()
        try:
            yield from replica.serve(work)
        finally:
            replica.ongoing -= 1
            self._freed(replica)
        self.stayed_s += self._env.now - began
        self.calls += 1

    def scale(self, count: int, start_s: float) -> None:
        """Let `count` take calls: more of them once they have started, fewer at once, which end what they have."""
        self._account()
        for _ in range(count - self.target):
            self._starting += 1
            self._env.process(self._start(start_s))
        for _ in range(self.target - count):
            if self._starting > self._unwanted:
                self._unwanted += 1
            else:
                last = self._replicas.pop()
                self._leaving.append(last)
                self.history.append((self._env.now, self.count))
                self._gone(last)

    def _start(self, start_s: float) -> Steps:
        yield self._env.timeout(start_s)
        self._account()
        self._starting -= 1
        if self._unwanted:
            self._unwanted -= 1
            return
        self._replicas.append(self._begin())
        self.history.append((self._env.now, self.count))
        self._hand_out()

    def _taken(self) -> Steps:
        chosen = self._choose()
        if chosen is None:
            turn = self._env.event()
            self._waiting.append(turn)
            return (yield turn)
        chosen.ongoing += 1
        return chosen

    def _choose(self) -> AnyReplica | None:
        if self._waiting or not self._replicas:
            return None
        two = self._rng.sample(self._replicas, min(2, len(self._replicas)))
        best = min(two, key=lambda each: each.ongoing)
        if best.ongoing < best.most:
            return best
        return next(self._free(), None)

    def _free(self) -> Iterator[AnyReplica]:
        return (each for each in self._replicas if each.ongoing < each.most)

    def _freed(self, replica: AnyReplica) -> None:
        if replica in self._leaving:
            self._gone(replica)
        elif self._waiting:
            replica.ongoing += 1
            self._waiting.popleft().succeed(replica)

    def _hand_out(self) -> None:
        for replica in self._free():
            while self._waiting and replica.ongoing < replica.most:
                replica.ongoing += 1
                self._waiting.popleft().succeed(replica)

    def _gone(self, replica: AnyReplica) -> None:
        if not replica.ongoing:
            self._account()
            self._leaving.remove(replica)
            self._worked_s += replica.worked_s

    def _account(self) -> None:
        self._ordered_s, self._seen = self.paid_s, self._env.now
