"""Jobs as the rest of the server has them: accepted, told of, followed and cancelled."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

from services.jobs.feeds import Feeds
from services.jobs.records import JobNews, JobPage, JobStatus, JobView, Submission
from services.jobs.runner import Runner
from services.jobs.store import JobStore

END = "end"


class JobDesk:
    """The store of jobs with what is known beside it of those that are being drawn; used from one event loop."""

    def __init__(
        self,
        store: JobStore,
        feeds: Feeds,
        runner: Runner,
        epoch: Callable[[], int],
        told: Callable[[JobStatus], object],
    ) -> None:
        """`epoch` tells the news of one runner from another's; `told` learns how jobs end that nobody draws on."""
        self._store = store
        self._feeds = feeds
        self._runner = runner
        self._epoch = epoch
        self._told = told

    async def submit(self, given: Submission) -> tuple[JobView, bool]:
        """Accept a job, and tell whether it is a new one, as `JobStore.submit` does."""
        job, new = await asyncio.to_thread(self._store.submit, given)
        self._runner.look()
        return self._with_progress(job), new

    async def find(self, owner: str, key: str, fingerprint: str) -> JobView | None:
        """The job that came with an idempotency key, as `JobStore.find` has it."""
        job = await asyncio.to_thread(self._store.find, owner, key, fingerprint)
        return None if job is None else self._with_progress(job)

    async def show(self, id_: str, owner: str) -> JobView:
        """A job as it is now, as `JobStore.view` has it."""
        return self._with_progress(await asyncio.to_thread(self._store.view, id_, owner))

    async def page(self, owner: str, limit: int, after: str | None = None, status: JobStatus | None = None) -> JobPage:
        """A part of an owner's jobs, as `JobStore.page` has it."""
        found = await asyncio.to_thread(self._store.page, owner, limit, after, status)
        return JobPage(tuple(self._with_progress(job) for job in found.jobs), found.has_more)

    async def cancel(self, id_: str, owner: str) -> JobView:
        """End a job, as `JobStore.cancel` does; what is drawn of it is given up."""
        job, new = await asyncio.to_thread(self._store.cancel, id_, owner)
        if new:
            self._runner.cancel(id_)
            self._told("cancelled")
        return job

    async def follow(self, id_: str, owner: str, after: str = "") -> AsyncIterator[JobNews]:
        """A job as it is, then what is told of it from then on, and at last how it ended.

        Whoever has seen the news with the id `after` gets the newest of each kind that came since.

        Raises:
            JobNotFoundError, JobExpiredError: as `JobStore.view`.
        """
        job = await self.show(id_, owner)
        if not job.has_ended:
            feed = self._feeds.of(id_)
            # it may have ended meanwhile, and nobody would tell the feed
            job = await self.show(id_, owner)
            if job.has_ended:
                self._feeds.end(id_)
            number = self._number(after)
            if not job.has_ended:
                yield JobNews(self._id(number), job)
            async for one in feed.after(number):
                if one.what is not None:
                    yield JobNews(self._id(one.number), one.what, one.previews)
                elif not (job := await self.show(id_, owner)).has_ended:
                    yield JobNews(self._id(one.number), job)
            job = await self.show(id_, owner)
        yield JobNews(END, job)

    async def settle(self) -> None:
        """Let go of whoever follows a job that has ended elsewhere, as where another replica has the store."""
        for id_ in await asyncio.to_thread(self._store.ended, self._feeds.ids()):
            self._feeds.end(id_)

    def _with_progress(self, job: JobView) -> JobView:
        if job.has_ended:
            return job
        progress, preview = self._feeds.newest(job.id)
        return replace(job, progress=progress, preview=preview)

    def _id(self, number: int) -> str:
        return f"{self._epoch()}-{number}"

    def _number(self, id_: str) -> int:
        """The number of a news of this runner; 0 for another's, which says nothing here."""
        epoch, _, number = id_.partition("-")
        known = epoch == str(self._epoch()) and number.isascii() and number.isdecimal() and len(number) <= 12
        return int(number) if known else 0
