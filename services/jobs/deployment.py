"""The jobs' deployment: one replica that keeps jobs, and has the graph draw them."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator

from pydantic import SecretStr
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle
from sqlalchemy.exc import DBAPIError

from components.reference import kind_of
from services.files.pictures import Link
from services.jobs.database import open_database
from services.jobs.desk import JobDesk
from services.jobs.feeds import Feeds
from services.jobs.records import JobNews, JobPage, JobStatus, JobTerms, JobView, Submission
from services.jobs.room import Room
from services.jobs.runner import Hands, Runner
from services.jobs.settings import JobsArgs
from services.jobs.store import JobStore
from services.jobs.webhooks import HttpSender, Webhooks
from services.jobs.work import Work
from services.messages import Drawn, Order, Outcome, PictureFormat, Progress, Queued
from services.metrics.jobs import JobMetrics
from services.outcomes import outcomes_of

_log = logging.getLogger("ray.serve")

_SWEEP_S = 10.0


class JobsDeployment:
    """Keeps jobs, has them drawn one after the other, and tells of them."""

    async def __init__(  # type: ignore[misc]  # Serve awaits it
        self,
        graph: DeploymentHandle,
        latents: DeploymentHandle,
        rollout: DeploymentHandle,
        database: SecretStr,
        settings: JobsArgs,
    ) -> None:
        self._tasks: list[asyncio.Task[None]] = []
        self._watched = graph.options(stream=True)
        self._latents = latents
        self._rollout = rollout
        self._metrics = JobMetrics()
        self._outcomes: list[Outcome] = []
        engine = await asyncio.to_thread(open_database, database.get_secret_value())
        room = Room(settings, self._metrics.dropped, time.time)
        self._store = JobStore(engine, settings, room)
        work = await asyncio.to_thread(Work, engine, settings, room)
        feeds = Feeds()
        sender = HttpSender(http=settings.webhook_http, private=settings.webhook_private)
        self._webhooks = Webhooks(work, sender, settings.webhook_attempts, self._metrics.told, time.time)
        hands = Hands(self._watch, self._keep, self._ended, self._over, time.time)
        runner = Runner(work, feeds, hands, settings.at_once)
        self._desk = JobDesk(self._store, feeds, runner, lambda: work.epoch, self._over)
        self._tasks = [asyncio.create_task(one) for one in (runner.run(), self._webhooks.run(), self._sweep())]

    def __del__(self) -> None:
        """Draw nothing any more; Serve calls it on the event loop, before the replica stops."""
        for task in self._tasks:
            task.cancel()

    async def check_health(self) -> None:
        """Tell Serve whether this replica can still work.

        Raises:
            RuntimeError: one of its tasks has ended.
        """
        if any(task.done() for task in self._tasks):
            raise RuntimeError("jobs are not looked after any more")

    async def submit(self, given: Submission) -> tuple[JobView, bool]:
        """Accept a job, as `JobDesk.submit` does."""
        return await self._desk.submit(given)

    async def find(self, owner: str, key: str, fingerprint: str) -> JobView | None:
        """The job of an idempotency key, as `JobDesk.find` has it."""
        return await self._desk.find(owner, key, fingerprint)

    async def show(self, id_: str, owner: str) -> JobView:
        """A job as it is now, as `JobDesk.show` has it."""
        return await self._desk.show(id_, owner)

    async def page(self, owner: str, limit: int, after: str | None = None, status: JobStatus | None = None) -> JobPage:
        """A part of an owner's jobs, as `JobDesk.page` has it."""
        return await self._desk.page(owner, limit, after, status)

    async def cancel(self, id_: str, owner: str) -> JobView:
        """End a job, as `JobDesk.cancel` does."""
        return await self._desk.cancel(id_, owner)

    async def follow(self, id_: str, owner: str, after: str = "") -> AsyncIterator[JobNews]:
        """What happens to a job, as `JobDesk.follow` tells it."""
        async for news in self._desk.follow(id_, owner, after):
            yield news

    async def _watch(self, order: Order, preview_every: int) -> AsyncIterator[Progress | Drawn]:
        news = self._watched.watch.remote(order, preview_every)
        try:
            async for one in news:
                # a job's position is in the queue of jobs
                if not isinstance(one, Queued):
                    yield one
        except BaseException:
            # whoever leaves before the end wants no more of it
            news.cancel()
            raise

    async def _keep(self, data: bytes, format_: PictureFormat) -> Link:
        link: Link = await self._latents.keep_picture.remote(data, format_)
        return link

    def _ended(self, order: Order, terms: JobTerms, end: Drawn | Exception) -> None:
        outcomes = outcomes_of(order, end)
        for one in outcomes:
            outcome = "non_finite" if one.non_finite else "error" if one.error else "ok"
            self._metrics.took_part(kind_of(one.pin.name).value, str(one.pin), outcome)
        if not terms.chosen:
            # what a caller put together says nothing for or against a canary
            self._outcomes += outcomes

    def _over(self, status: JobStatus) -> None:
        self._metrics.over(status)
        self._webhooks.look()

    async def _sweep(self) -> None:
        while True:
            await self._tell_outcomes()
            try:
                await self._desk.settle()
                await asyncio.to_thread(self._store.sweep)
                counts, size = await asyncio.to_thread(self._store.holds)
                self._metrics.holds(counts, size)
            except DBAPIError as error:
                _log.error("jobs: the store lets nothing go: %s", type(error.orig).__name__)
            await asyncio.sleep(_SWEEP_S)

    async def _tell_outcomes(self) -> None:
        outcomes, self._outcomes = self._outcomes, []
        if not outcomes:
            return
        try:
            await self._rollout.record.remote(None, 0.0, outcomes)
        except (RayError, RayServeException) as error:
            _log.warning("the rollout controller does not answer: %s", type(error).__name__)
            self._outcomes = outcomes + self._outcomes
