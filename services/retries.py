"""Doing a replica's work again where the replica stopped, and knowing when to give a request up."""

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

MOST_LOST = 2


class Losses:
    """Counts the replicas that stopped while they worked on one piece of work and before it got any further there.

    One that got further first is not counted: what stopped that replica was more likely another piece of work, and the
    next replica goes on from there.
    """

    def __init__(self, stage: str) -> None:
        """Count for a piece of work of the stage of that name."""
        self._stage = stage
        self._lost = 0
        self._got_further = False

    def got_further(self) -> None:
        """The work has got further on the replica that has it now."""
        self._got_further = True
        self._lost = 0

    def count(self) -> None:
        """That replica has stopped.

        Raises:
            GivenUpError: the work is not to be tried again.
        """
        if not self._got_further:
            self._lost += 1
        self._got_further = False
        if self._lost >= MOST_LOST:
            raise GivenUpError(
                f"{self._lost} replicas of the {self._stage} stopped, one after the other, while they worked on this "
                "request; it is not tried again"
            )


async def again_where_lost(stage: str, call: Callable[[], Awaitable[Result]]) -> Result:
    """Await `call`, and once more where the replica that worked on it stopped.

    Raises:
        GivenUpError: another replica stopped too.
    """
    losses = Losses(stage)
    while True:
        try:
            return await call()
        except LOST:
            losses.count()
