"""A job as it is told: in answers, in events, and to webhooks."""

from typing import Literal

from pydantic import BaseModel, Field

from services.failures import ErrorDetail
from services.jobs.records import DeliveryState, JobStatus, JobView

PATH = "/v1/jobs"


class PictureProgress(BaseModel):
    """How far one picture of a job is."""

    image_index: int = Field(description="which of the n pictures, from 0")
    step: int = Field(description="how many steps are done")
    steps: int = Field(description="how many there are")


class Timings(BaseModel):
    """How long a job has waited, and was drawn, in seconds so far."""

    queued_s: float = Field(description="until it was begun")
    generating_s: float | None = Field(description="null before it was begun")


class Delivered(BaseModel):
    """How far the telling of a job's end to its webhook is."""

    state: DeliveryState = Field(description="`pending`, `delivered`, or `given_up`")
    attempts: int = Field(description="how often it was tried")
    status: int | None = Field(description="the receiver's last answer; null where there was none")


class JobState(BaseModel):
    """A job without its pictures. Times are seconds since 1970."""

    id: str = Field(description="what the job is asked for by")
    object: Literal["job"] = Field("job", description="always `job`")
    kind: Literal["image_generation"] = Field("image_generation", description="always `image_generation`")
    status: JobStatus = Field(description="queued, generating, or how it ended")
    created: int = Field(description="when it was accepted")
    started: int | None = Field(description="when it was begun last; null while it waits")
    ended: int | None = Field(description="when it ended; null before")
    expires: int | None = Field(description="until when it is kept; null before it has ended")
    url: str = Field(description="where it is to be seen")
    model: str = Field(description="the bundle")
    seed: int = Field(description="the first picture's")
    position: int | None = Field(description="in the queue, 1 for the next one; null for a job that does not wait")
    progress: list[PictureProgress] = Field(description="of each picture that was begun, while it is being drawn")
    timings: Timings = Field(description="how long it waited and was drawn")
    error: ErrorDetail | None = Field(description="why it failed; else null")
    webhook: Delivered | None = Field(description="null without one")


def address_of(address: str, id_: str) -> str:
    """Where a job is to be seen, by how its caller reaches this server."""
    return f"{address}{PATH}/{id_}"


def state_of(job: JobView, address: str, now: float) -> JobState:
    """A job as it is told; `now` is seconds since 1970."""
    failure, delivery = job.failure, job.delivery
    return JobState(
        id=job.id,
        status=job.status,
        created=int(job.created),
        started=None if job.started is None else int(job.started),
        ended=None if job.ended is None else int(job.ended),
        expires=None if job.expires is None else int(job.expires),
        url=address_of(address, job.id),
        model=job.terms.bundle,
        seed=job.order.request.seed,
        position=job.position,
        progress=[PictureProgress(image_index=one.image, step=one.step, steps=one.steps) for one in job.progress],
        timings=_timings(job, now),
        error=None
        if failure is None
        else ErrorDetail(message=failure.message, type=failure.type, param=failure.param, code=failure.code),
        webhook=None
        if delivery is None
        else Delivered(state=delivery.state, attempts=delivery.attempts, status=delivery.status),
    )


def _timings(job: JobView, now: float) -> Timings:
    end = now if job.ended is None else job.ended
    begun = end if job.started is None else job.started
    drawn_s = None if job.started is None else round(max(0.0, end - job.started), 3)
    return Timings(queued_s=round(max(0.0, begun - job.created), 3), generating_s=drawn_s)
