"""How the deployments of an application stand: which have replicas, and which have none and need none."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from ray.serve.schema import DeploymentStatusOverview, ReplicaState

from services.errors import UnavailableError

_FRESH_S = 1.0
# what Serve says of a deployment whose replicas are as many as are wanted, or become so
_AS_WANTED = ("HEALTHY", "DOWNSCALING")
_SOUND = (*_AS_WANTED, "UPSCALING")


@dataclass(frozen=True, slots=True)
class Standing:
    """How one deployment stands: `running` replicas take requests.

    It `serves` where one runs, or where one starts as soon as it is needed. It `rests` where none runs and none is on
    its way, as none is needed.
    """

    running: int
    serves: bool
    rests: bool = False

    @classmethod
    def of(cls, said: DeploymentStatusOverview) -> Self:
        """What Serve's own account comes to."""
        status, states = said.status.value, said.replica_states
        running = states.get(ReplicaState.RUNNING, 0)
        coming = sum(states.values()) - running - states.get(ReplicaState.STOPPING, 0)
        return cls(
            running=running,
            serves=running > 0 or status in _SOUND,
            rests=running == 0 and coming == 0 and status in _AS_WANTED,
        )


class Standings:
    """Asks Serve's controller, once a second at most; used from one event loop."""

    def __init__(self, application: str, patience_s: float = 5.0, *, old_s: float = 0.0) -> None:
        """Ask of the deployments of an application, by its name; outside of Serve it has none.

        Nobody waits longer than `patience_s` seconds for a controller that is away, or at all for one found so; nor
        where there is an account of `old_s` seconds ago or less, while a newer one is asked for.
        """
        self._application = application
        self._patience_s = patience_s
        self._old_s = old_s
        self._last: tuple[float, Mapping[str, Standing]] | None = None
        self._asking: asyncio.Task[Mapping[str, Standing]] | None = None
        self._asked = 0.0

    async def __call__(self) -> Mapping[str, Standing]:
        """How each deployment stands, by its name.

        Raises:
            UnavailableError: the controller does not answer, or does not know the application.
        """
        if not self._application:
            raise UnavailableError("there is no application outside of Serve")
        asking, now = self._asking, time.monotonic()
        if asking is not None and asking.done() and not asking.cancelled() and asking.exception() is None:
            self._last = (self._asked, asking.result())
        if asking is None or (asking.done() and now - self._asked >= _FRESH_S):
            # a call to a controller that is away comes back when it does: there is never more than one
            asking = self._asking = asyncio.create_task(asyncio.to_thread(self._ask))
            # where every caller has given up nobody else would take note of an error
            asking.add_done_callback(lambda task: task.cancelled() or task.exception())
            self._asked = now
        if not asking.done() and self._last is not None and now - self._last[0] <= self._old_s:
            return self._last[1]
        await asyncio.wait([asking], timeout=max(0.0, self._asked + self._patience_s - now))
        if not asking.done():
            raise UnavailableError("Serve's controller does not answer")
        return asking.result()

    def _ask(self) -> Mapping[str, Standing]:
        try:
            application = serve.status().applications.get(self._application)
        except (RayError, RayServeException, OSError):
            raise UnavailableError("Serve's controller does not answer") from None
        if application is None:
            raise UnavailableError("Serve's controller does not know the application")
        return {name: Standing.of(one) for name, one in application.deployments.items()}
