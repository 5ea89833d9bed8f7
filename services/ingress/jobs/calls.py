"""The jobs' deployment as the ingress calls it."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Protocol

from ray.serve.handle import DeploymentHandle

from services.errors import UnavailableError
from services.jobs.desk import END
from services.jobs.records import JobNews, JobPage, JobStatus, JobView, Submission
from services.retries import LOST

# calls queue while its replica starts again, and a caller must not wait for long
_MOST_S = 20.0
# who follows a job goes on once the replica is there again
_AGAIN_S = 0.5
_MOST_LOST = 120


class Jobs(Protocol):
    """Jobs as the faces have them; every method raises as `JobDesk` does."""

    async def submit(self, given: Submission) -> tuple[JobView, bool]:
        """Accept a job, and tell whether it is a new one."""

    async def find(self, owner: str, key: str, fingerprint: str) -> JobView | None:
        """The job that came with an idempotency key."""

    async def show(self, id_: str, owner: str) -> JobView:
        """A job as it is now."""

    async def page(self, owner: str, limit: int, after: str | None, status: JobStatus | None) -> JobPage:
        """A part of an owner's jobs."""

    async def cancel(self, id_: str, owner: str) -> JobView:
        """End a job."""

    def follow(self, id_: str, owner: str, after: str = "") -> AsyncIterator[JobNews]:
        """What happens to a job, from the news `after` on."""


class JobCalls:
    """Calls the deployment of jobs."""

    def __init__(self, jobs: DeploymentHandle) -> None:
        self._jobs = jobs
        self._followed = jobs.options(stream=True)

    async def submit(self, given: Submission) -> tuple[JobView, bool]:
        """Accept a job, and tell whether it is a new one."""
        found: tuple[JobView, bool] = await _soon(self._jobs.submit.remote(given))
        return found

    async def find(self, owner: str, key: str, fingerprint: str) -> JobView | None:
        """The job that came with an idempotency key."""
        found: JobView | None = await _soon(self._jobs.find.remote(owner, key, fingerprint))
        return found

    async def show(self, id_: str, owner: str) -> JobView:
        """A job as it is now."""
        found: JobView = await _soon(self._jobs.show.remote(id_, owner))
        return found

    async def page(self, owner: str, limit: int, after: str | None, status: JobStatus | None) -> JobPage:
        """A part of an owner's jobs."""
        found: JobPage = await _soon(self._jobs.page.remote(owner, limit, after, status))
        return found

    async def cancel(self, id_: str, owner: str) -> JobView:
        """End a job."""
        found: JobView = await _soon(self._jobs.cancel.remote(id_, owner))
        return found

    async def follow(self, id_: str, owner: str, after: str = "") -> AsyncIterator[JobNews]:
        """What happens to a job, also where the replica that tells of it stops and another one starts."""
        lost, ended = 0, False
        while True:
            news = self._followed.follow.remote(id_, owner, after)
            try:
                async for one in news:
                    after, lost, ended = one.id, 0, one.id == END
                    yield one
            except LOST:
                news.cancel()
                if ended:
                    # nothing comes after it, and it must not come twice
                    return
                lost += 1
                if lost > _MOST_LOST:
                    raise
                await asyncio.sleep(_AGAIN_S)
            except BaseException:
                # whoever leaves before the end wants no more of it
                news.cancel()
                raise
            else:
                return


async def _soon(response: Any) -> Any:
    try:
        async with asyncio.timeout(_MOST_S):
            return await response
    except TimeoutError:
        raise UnavailableError("jobs are not answered for just now; try again later") from None
