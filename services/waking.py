"""Requests for stages of which no replica runs: held until one has started, so many at a time."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from contextvars import Context

from ray.serve.handle import DeploymentHandle

from components.contract import Kind
from services.deadlines import Deadline
from services.errors import HeldTooManyError, UnavailableError
from services.metrics.graph import GraphMetrics
from services.retries import LOST
from services.standing import Standing

# A handle counts what waits in it every six seconds, and tells Serve's controller of its counts every ten, but also as
# soon as a call comes while there is no replica.
_KNOCK_AGAIN_S = 1.0
_PAUSE_S = 0.1
# Serve takes half a minute at least to take the last replica of a stage that has just answered
_AWAKE_S = 10.0


class Waking:
    """Starts what is missing by one call to each such stage, for which all requests wait; used from one event loop.

    So a request is let in or refused before any stage works on it, the stages that it needs start side by side, and
    none is refused that was let in.
    """

    def __init__(
        self,
        stages: Mapping[Kind, DeploymentHandle],
        standings: Callable[[], Awaitable[Mapping[str, Standing]]],
        most: int,
        metrics: GraphMetrics,
    ) -> None:
        """Hold up to `most` requests for each stage; `standings` says which have replicas."""
        self._standings = standings
        self._missing = {kind: _Missing(kind, handle, most, metrics) for kind, handle in stages.items()}

    async def awake(self, kinds: Collection[Kind], deadline: Deadline) -> bool:
        """Return once each of the stages has a replica, and tell whether that was waited for.

        Raises:
            HeldTooManyError: as many requests are held for one of them as may be.
            DeadlineExceededError: none has started in time.
        """
        try:
            found = await self._standings()
        except UnavailableError:
            # the stages' replicas do without Serve's controller
            return False
        missing = [
            self._missing[kind]
            for kind in kinds
            if (one := found.get(kind)) is not None and not one.running and not self._missing[kind].awake
        ]
        for stage in missing:
            stage.require_room()
        with ExitStack() as held:
            starts = [held.enter_context(stage.held()) for stage in missing]
            async with deadline.ends("before a replica had started"):
                # who goes away must not end them for the others
                await asyncio.gather(*map(asyncio.shield, starts))
        return bool(missing)


class _Missing:
    """A stage without replicas: how many requests are held for it, and the call that starts one."""

    def __init__(self, kind: Kind, handle: DeploymentHandle, most: int, metrics: GraphMetrics) -> None:
        self._kind = kind
        self._handle = handle
        self._most = most
        self._metrics = metrics
        self._waiting = 0
        self._start: asyncio.Task[None] | None = None
        self._begun = 0.0
        self._answered: float | None = None
        self._last_s: float | None = None

    @property
    def awake(self) -> bool:
        """Whether one answered a moment ago, so that there is one whatever an older account says."""
        return self._answered is not None and time.monotonic() - self._answered < _AWAKE_S

    def require_room(self) -> None:
        """Refuse a request more than may be held.

        Raises:
            HeldTooManyError: it would be one.
        """
        if self._waiting >= self._most:
            raise HeldTooManyError(
                f"no replica of the {self._kind} runs, and {self._waiting} requests wait for one to start; "
                "try again later",
                self._left_s(),
            )

    @contextmanager
    def held(self) -> Iterator["asyncio.Task[None]"]:
        """A block in which one request more is held, with what it waits for; the last that leaves gives it up."""
        if self._start is None or self._start.done():
            self._begun = time.monotonic()
            # not in the context of the request that happened to come first: Serve would end it with that one
            self._start = asyncio.create_task(self._started(), context=Context())
            # where every caller has gone away nobody else would take note of an error
            self._start.add_done_callback(lambda task: task.cancelled() or task.exception())
        self._count(1)
        try:
            yield self._start
        finally:
            self._count(-1)
            if not self._waiting:
                self._start.cancel()
                self._start = None

    def _count(self, requests: int) -> None:
        self._waiting += requests
        self._metrics.held(self._kind, self._waiting)

    def _left_s(self) -> int | None:
        """Whole seconds that a start takes yet, if it takes as long as the last one; None where nobody can say."""
        left_s = 0.0 if self._last_s is None else self._begun + self._last_s - time.monotonic()
        return math.ceil(left_s) if left_s > 0 else None

    async def _started(self) -> None:
        """Return once a replica answers."""
        while True:
            try:
                await self._knocked()
            except LOST:
                # it stopped before it had answered, and so may the next
                await asyncio.sleep(_PAUSE_S)
            else:
                self._answered = time.monotonic()
                self._last_s = self._answered - self._begun
                self._metrics.started(self._kind, self._last_s)
                return

    async def _knocked(self) -> None:
        """Have a call wait for a replica until it answers, and others beside it, each for a time."""
        knock = asyncio.create_task(_knock(self._handle))
        others: list[asyncio.Task[None]] = []
        try:
            while not (await asyncio.wait([knock], timeout=_KNOCK_AGAIN_S))[0]:
                while others:
                    others.pop().cancel()
                others.append(asyncio.create_task(_knock(self._handle)))
            await knock
        finally:
            for one in (knock, *others):
                one.cancel()


async def _knock(stage: DeploymentHandle) -> None:
    await stage.knock.remote()
