"""From an admitted request to a job, and to the answer of a request that goes on without its caller."""

from collections.abc import AsyncIterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from hashlib import sha256

from fastapi import Request, Response
from starlette.requests import HTTPConnection

from components.messages import Source
from services.errors import FieldError, UnavailableError
from services.ingress.access.callers import caller
from services.ingress.http.addresses import PublicAddress
from services.ingress.jobs.calls import Jobs
from services.ingress.orders.drawings import Asked, Drawings, News
from services.ingress.orders.events import preview_every
from services.ingress.wire.bodies import tenant_of
from services.ingress.wire.requests import GenerationBody
from services.jobs.errors import JobCancelledError, JobFailedError
from services.jobs.records import JobTerms, JobView, Submission, Webhook
from services.messages import Drawn, Order, Progress

_LONGEST_KEY = 255
KEY_HEADER = "idempotency-key"
JOB_HEADER = "x-job-id"


def owner_of(request: HTTPConnection, user: str | None) -> str:
    """Whose a caller's jobs are: its key's, and where no keys are asked for the user's that it names.

    Raises:
        FieldError: the user's name is too long.
    """
    return caller(request).share_of(tenant_of(user))


def key_of(request: Request) -> str | None:
    """The idempotency key of a request, None where it has none.

    Raises:
        FieldError: it is none, or there are two.
    """
    given = request.headers.getlist(KEY_HEADER)
    if not given:
        return None
    if len(given) > 1 or not 1 <= len(given[0]) <= _LONGEST_KEY or not given[0].isprintable():
        raise FieldError(f"{KEY_HEADER}: must be one text of 1 to {_LONGEST_KEY} printable characters", KEY_HEADER)
    return given[0]


def fingerprint_of(body: GenerationBody, source: Source | None = None) -> str:
    """What tells a request from another one that comes with the same key."""
    told = sha256(f"{type(body).__name__}\n{body.model_dump_json()}".encode("utf-8", "surrogatepass"))
    if source is not None:
        told.update(source.pixels.tobytes())
        for more in (source.mask, source.depth):
            told.update(b"" if more is None else more.tobytes())
        if source.overlay is not None:
            told.update(source.overlay.picture.tobytes() + source.overlay.mask.tobytes())
    return told.hexdigest()


@dataclass(frozen=True, slots=True)
class JobOrders:
    """What a job takes on its way through the ingress; `drawings` answers those whose caller waits."""

    jobs: Jobs
    drawings: Drawings
    address: PublicAddress

    async def submit(
        self, asked: Asked, body: GenerationBody, request: Request, *, webhook: Webhook | None = None, links: bool
    ) -> tuple[JobView, bool]:
        """Have what was asked for kept as a job, with `links` to its pictures or without; whether it is a new one.

        Raises:
            ServingError: there is no room, or its idempotency key came with another request.
        """
        order, streaming = asked.order, asked.form.streaming
        previews = 0 if streaming is None else streaming.partial_images
        terms = JobTerms(
            bundle=asked.bundle,
            quality=asked.form.quality,
            previews=previews,
            preview_every=preview_every(order.request.walked, previews),
            links=links,
            chosen=asked.chosen,
            address=self.address.of(request),
            most_at_once=caller(request).allowance.limits.concurrent_pictures,
        )
        return await self.jobs.submit(
            Submission(
                order=order,
                terms=terms,
                owner=owner_of(request, body.user),
                key=key_of(request),
                fingerprint=fingerprint_of(body, order.source),
                webhook=webhook,
            )
        )

    async def answer(self, asked: Asked, body: GenerationBody, request: Request, held: ExitStack) -> Response:
        """Have a request drawn as a job, and answer it as if it were none; the job goes on where the caller leaves.

        Raises:
            ServingError: there is no room, or it could not be drawn.
        """
        job, _new = await self.submit(asked, body, request, links=False)
        followed = _Followed(self.jobs, job.id, owner_of(request, body.user))
        drawings = replace(self.drawings, draw=followed.draw, watch=followed.watch)
        # with a key that came before it is the order of then, whose seed may be another
        ours = replace(asked, order=job.order, kept=True)
        if asked.form.streaming is not None:
            response: Response = await drawings.streamed(ours, asked.form.streaming, held)
        else:
            response = await drawings.whole(ours, request)
        response.headers[JOB_HEADER] = job.id
        return response


@dataclass(frozen=True, slots=True)
class _Followed:
    """A job that somebody waits for, as if the graph drew it for them."""

    jobs: Jobs
    id: str
    owner: str

    async def draw(self, order: Order) -> Drawn:
        async for one in self.watch(order, 0):
            if isinstance(one, Drawn):
                return one
        raise UnavailableError("the job is not told of any more; its state is at /v1/jobs")

    async def watch(self, _order: Order, _preview_every: int) -> AsyncIterator[News]:
        seen: dict[int, int] = {}
        async for news in self.jobs.follow(self.id, self.owner):
            if isinstance(news.what, Progress):
                # a step with a preview is told twice: with it, and alone
                if news.what.preview is not None or seen.get(news.what.image) != news.what.step:
                    seen[news.what.image] = news.what.step
                    yield news.what
            elif news.what.has_ended:
                yield _drawn(news.what)


def _drawn(job: JobView) -> Drawn:
    if job.drawn is not None:
        return job.drawn
    if (failure := job.failure) is not None:
        kind = (failure.status, failure.type, failure.code, failure.should_retry)
        raise JobFailedError(failure.message, failure.param, kind)
    raise JobCancelledError("the job was cancelled")
