"""What is told of a job: its state with its pictures, and the messages of its events."""

import asyncio
import base64
import json
from dataclasses import dataclass
from typing import NamedTuple

from fastapi.sse import format_sse_event
from pydantic import BaseModel

from services.ingress.jobs.schemas import JobAnswer, JobEvent, JobPreview
from services.ingress.orders.events import Events, unfinished
from services.ingress.orders.fields import Streaming
from services.ingress.orders.links import url_of
from services.ingress.wire.answers import answer_of
from services.ingress.wire.schemas import GenerationAnswer
from services.jobs.records import JobNews, JobView
from services.jobs.state import state_of
from services.messages import Progress


class Message(NamedTuple):
    """One message, whose type is in its data too; `id` is where to go on from, None within what belongs together."""

    data: BaseModel
    type: str
    id: str | None

    def as_text(self) -> str:
        """The message as a WebSocket has it: the data of the event, and its id."""
        return json.dumps({**self.data.model_dump(mode="json"), "event_id": self.id})

    def as_event(self) -> bytes:
        """The message as a server-sent event."""
        return format_sse_event(event=self.type, data_str=self.data.model_dump_json(), id=self.id)


async def answer_of_job(job: JobView, address: str, now: float) -> JobAnswer:
    """A job with its pictures; `address` is how its caller reaches this server, `now` seconds since 1970."""
    return JobAnswer(
        **state_of(job, address, now).model_dump(),
        preview=await _preview(job),
        result=_result(job, address),
    )


@dataclass(frozen=True, slots=True)
class Messages:
    """The messages of one job; `address` as in `answer_of_job`."""

    job: JobView
    address: str

    async def of(self, news: JobNews, now: float) -> list[Message]:
        """What one piece of news says; `now` is seconds since 1970."""
        if isinstance(news.what, Progress):
            return [await self._of_step(news.what, news)]
        job = news.what
        told: list[Message] = []
        if job.drawn is not None and not job.links:
            told = [Message(one, one.type, None) for one in self._events(job).of_pictures(job.drawn)]
        type_ = f"job.{job.status}"
        return [*told, Message(JobEvent(type=type_, job=state_of(job, self.address, now)), type_, news.id)]

    async def _of_step(self, progress: Progress, news: JobNews) -> Message:
        events = self._events(self.job)
        if progress.preview is None:
            step = events.step(progress)
            return Message(step, step.type, news.id)
        partial = await events.partial(progress, progress.preview, news.previews)
        return Message(partial, partial.type, news.id)

    @staticmethod
    def _events(job: JobView) -> Events:
        return Events(job.order, Streaming(job.terms.previews, progress=True), job.terms.quality)


def _result(job: JobView, address: str) -> GenerationAnswer | None:
    if job.drawn is None or job.ended is None:
        return None
    terms = job.terms
    urls = [url_of(link, address) for link in job.links] if job.links else None
    answer = answer_of(job.order, job.drawn, terms.bundle, terms.quality, urls)
    return answer.model_copy(update={"created": int(job.ended)})


async def _preview(job: JobView) -> JobPreview | None:
    newest = job.preview
    if newest is None or newest.preview is None:
        return None
    data = await asyncio.to_thread(unfinished, newest.preview, job.order, newest)
    return JobPreview(image_index=newest.image, step=newest.step, b64_json=base64.b64encode(data).decode())
