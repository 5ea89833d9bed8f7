"""Doing a replica's work again where the replica stopped, and knowing when to give a request up."""

import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from ray.exceptions import (
    LocalRayletDiedError,
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    RayActorError,
    WorkerCrashedError,
)
from ray.serve.exceptions import ReplicaUnavailableError

from services.errors import GivenUpError
from services.metrics.graph import GraphMetrics

_log = logging.getLogger("ray.serve")

Result = TypeVar("Result")

# a process or a machine is gone, and with it what it worked on or kept; another one may do it
LOST = (
    LocalRayletDiedError,
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    RayActorError,
    ReplicaUnavailableError,
    WorkerCrashedError,
)

# a request that gets further on each replica may yet be what stops them
MOST_LOST = 16


class Losses:
    """Counts the replicas that stopped while they worked on one piece of work, and says when to give it up.

    The first may have stopped for anything, also for another's sake. From then on the work is suspected: it is kept
    apart, and tells of each thing that it may stop a replica by before it does it. If the replica stops right then, or
    before it has told anything, the work is given up. Once it is past where the first one stopped it is cleared.
    """

    def __init__(self, stage: str, metrics: GraphMetrics) -> None:
        """Count for a piece of work of the stage of that name."""
        self._stage = stage
        self._metrics = metrics
        self._lost = 0
        self._suspected = False
        self._at_risk = True

    def told(self, at_risk: bool) -> None:
        """The replica that has the work has told of it, and whether it is about to risk itself for it."""
        self._at_risk = at_risk

    def cleared(self) -> None:
        """The work has got past where the last replica stopped."""
        self._suspected = False

    def count(self) -> None:
        """The replica has stopped.

        Raises:
            GivenUpError: the work is not to be tried again.
        """
        self._lost += 1
        self._metrics.lost(self._stage)
        _log.warning("%s: a replica stopped while it worked on a request", self._stage)
        guilty = self._suspected and self._at_risk
        self._suspected = self._at_risk = True
        if guilty or self._lost >= MOST_LOST:
            self._metrics.given_up(self._stage)
            raise GivenUpError(
                f"{self._lost} replicas of the {self._stage} stopped, one after the other, while they worked on this "
                "request; it is not tried again"
            )


async def again_where_lost(stage: str, metrics: GraphMetrics, call: Callable[[], Awaitable[Result]]) -> Result:
    """Await `call`, and once more where the replica that worked on it stopped.

    Raises:
        GivenUpError: another replica stopped too.
    """
    losses = Losses(stage, metrics)
    while True:
        try:
            return await call()
        except LOST:
            losses.count()
