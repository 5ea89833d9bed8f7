"""Has jobs drawn, so many at a time, each until it has come to an end."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from sqlalchemy.exc import DBAPIError

from services.errors import (
    DeadlineExceededError,
    FileNotKeptError,
    HeldTooManyError,
    OverloadedError,
    PictureNotKeptError,
    ServingError,
    UnavailableError,
)
from services.failures import known
from services.files.pictures import Link
from services.jobs.errors import SupersededError
from services.jobs.feeds import Feeds
from services.jobs.records import ClaimedJob, JobFailure, JobStatus, JobTerms
from services.jobs.work import MOST_BEGUN, Work
from services.messages import Drawn, Order, PictureFormat, Progress

_log = logging.getLogger("ray.serve")

Result = TypeVar("Result")

# how often the store is asked while nothing is told
_LOOK_S = 1.0
# how long the graph is left alone that has no room, where it does not say so itself
_HOLD_S = 2.0
_LONGEST_S = 60.0
_DISK_S = 5.0
_BEAT_S = 5.0


@dataclass(frozen=True, slots=True)
class Hands:
    """What a runner needs of the rest of the server.

    `watch` draws an order and tells of every step, with a preview every so many; `keep` keeps a picture for a link.
    `ended` learns how each drawing ended, `told` how each job; `clock` is seconds since 1970.
    """

    watch: Callable[[Order, int], AsyncIterator[Progress | Drawn]]
    keep: Callable[[bytes, PictureFormat], Awaitable[Link]]
    ended: Callable[[Order, JobTerms, Drawn | Exception], object]
    told: Callable[[JobStatus], object]
    clock: Callable[[], float]


class Runner:
    """Draws what the store says; used from one event loop.

    Where the graph has no room a job waits in its place, as often as it takes. Where a part of the server is away it is
    begun again, `MOST_BEGUN` times at most. Whatever else fails ends the job.
    """

    def __init__(
        self,
        work: Work,
        feeds: Feeds,
        hands: Hands,
        at_once: int,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Draw `at_once` jobs at a time; `pause` is how the disk, and another runner's end, are waited for."""
        self._work = work
        self._feeds = feeds
        self._hands = hands
        self._at_once = at_once
        self._pause = pause
        self._drawing: dict[str, asyncio.Task[None]] = {}
        # while the store is asked for the next job
        self._cancelled: set[str] = set()
        self._held_until = 0.0
        self._news = asyncio.Event()

    async def run(self) -> None:
        """Draw jobs, for ever; while another runner has the store that one does."""
        while True:
            try:
                await self._run()
            except SupersededError:
                _log.warning("jobs: another replica has the store, and draws what is in it")
            finally:
                for task in self._drawing.values():
                    task.cancel()
            while not await self._kept(self._work.take_over_again):
                await self._pause(_BEAT_S)
            _log.warning("jobs: the other replica is gone; jobs are drawn here again")

    def look(self) -> None:
        """There is a new job."""
        self._news.set()

    def cancel(self, id_: str) -> None:
        """Draw a job no more, which the store has ended."""
        self._cancelled.add(id_)
        if (task := self._drawing.get(id_)) is not None:
            task.cancel()
        self._feeds.end(id_)

    async def _run(self) -> None:
        said = -_BEAT_S
        while True:
            self._news.clear()
            if self._hands.clock() - said >= _BEAT_S:
                said = self._hands.clock()
                await self._kept(self._work.beat)
            await self._begin()
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_S):
                    await self._news.wait()

    async def _begin(self) -> None:
        while len(self._drawing) < self._at_once and self._hands.clock() >= self._held_until:
            self._cancelled.clear()
            try:
                job = await asyncio.to_thread(self._work.claim)
            except DBAPIError as error:
                _log.error("jobs: the store does not answer: %s", type(error.orig).__name__)
                return
            if job is None:
                return
            if job.id in self._cancelled:
                continue
            if self._hands.clock() < self._held_until:
                # so said the graph while the store was asked
                await self._back(job, 0.0, begun=False)
                return
            self._feeds.of(job.id).changed()
            task = asyncio.create_task(self._draw(job))
            self._drawing[job.id] = task
            task.add_done_callback(partial(self._left, job.id))

    def _left(self, id_: str, _task: asyncio.Task[None]) -> None:
        del self._drawing[id_]
        self.look()

    async def _draw(self, job: ClaimedJob) -> None:
        try:
            drawn = await self._drawn(job)
            links = await self._links(job, drawn)
            counts = await self._kept(lambda: self._work.complete(job.number, drawn, links))
        except Exception as error:  # noqa: BLE001 - whatever it was, the job comes to an end
            await self._failed(job, error)
        else:
            self._over(job, "completed", counts)

    async def _drawn(self, job: ClaimedJob) -> Drawn:
        feed, terms = self._feeds.of(job.id), job.terms
        drawn: Drawn | None = None
        try:
            async for one in self._hands.watch(self._in_time(job), terms.preview_every):
                if isinstance(one, Drawn):
                    drawn = one
                else:
                    feed.step(one, terms.previews)
            if drawn is None:
                raise UnavailableError("the drawing was broken off; try again")
        except Exception as error:
            self._hands.ended(job.order, terms, error)
            raise
        self._hands.ended(job.order, terms, drawn)
        return drawn

    def _in_time(self, job: ClaimedJob) -> Order:
        """The order with what is left of its deadline, which counts from when the job was accepted.

        Raises:
            DeadlineExceededError: nothing is.
        """
        terms = job.order.terms
        if terms.deadline_s is None:
            return job.order
        left_s = job.created + terms.deadline_s - self._hands.clock()
        if left_s <= 0:
            raise DeadlineExceededError(f"deadline_s={terms.deadline_s:g}: has passed in the queue", "deadline_s")
        return replace(job.order, terms=replace(terms, deadline_s=left_s))

    async def _links(self, job: ClaimedJob, drawn: Drawn) -> tuple[Link, ...]:
        if not job.terms.links:
            return ()
        format_ = job.order.encoding.format
        return tuple([await self._hands.keep(picture.data, format_) for picture in drawn.pictures])

    async def _failed(self, job: ClaimedJob, error: Exception) -> None:
        ours = known(error)
        if isinstance(ours, OverloadedError):
            wait_s = min(_LONGEST_S, _HOLD_S if ours.retry_after_s is None else ours.retry_after_s)
            if isinstance(ours, HeldTooManyError):
                # others may do without that stage
                await self._back(job, wait_s, begun=False)
                return
            # nor has it room for another job
            self._held_until = max(self._held_until, self._hands.clock() + wait_s)
            await self._back(job, 0.0, begun=False)
        elif isinstance(ours, UnavailableError) and job.begun < MOST_BEGUN:
            await self._back(job, min(_LONGEST_S, 2.0 ** (job.begun - 1)), begun=True)
        else:
            if isinstance(ours, FileNotKeptError):
                ours = PictureNotKeptError("the pictures were drawn, and there is no room to keep them")
            if type(ours) is ServingError:
                # never its message: it may quote what the caller wrote
                _log.error("a job failed: %s", type(error).__name__)
            failure = _failure(ours)
            self._over(job, "failed", await self._kept(lambda: self._work.fail(job.number, failure)))

    async def _back(self, job: ClaimedJob, wait_s: float, *, begun: bool) -> None:
        if await self._kept(lambda: self._work.put_back(job.number, wait_s, begun=begun)):
            self._feeds.of(job.id).changed()

    def _over(self, job: ClaimedJob, status: JobStatus, counts: bool) -> None:
        # what somebody else has ended, or draws, is told by them
        if counts:
            self._feeds.end(job.id)
            self._hands.told(status)

    async def _kept(self, change: Callable[[], Result]) -> Result:
        """Change the store, however long its disk takes."""
        while True:
            try:
                return await asyncio.to_thread(change)
            except DBAPIError as error:
                _log.error("jobs: the store does not take a change: %s", type(error.orig).__name__)
            await self._pause(_DISK_S)


def _failure(error: ServingError) -> JobFailure:
    return JobFailure(
        status=error.status,
        message=error.message,
        type=error.type,
        param=error.param,
        code=error.code,
        should_retry=error.should_retry,
    )
