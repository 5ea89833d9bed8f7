"""The jobs face: requests that go on without their caller, looked at, followed and cancelled."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response
from pydantic import BaseModel
from starlette.requests import HTTPConnection
from starlette.status import WS_1000_NORMAL_CLOSURE, WS_1008_POLICY_VIOLATION, WS_1011_INTERNAL_ERROR
from starlette.websockets import WebSocket

from services.errors import CallerError, FieldError, NotAcceptableError
from services.ingress.access.callers import caller
from services.ingress.http.body import JSON_TYPE
from services.ingress.http.errors import answer
from services.ingress.http.json_pictures import read_object
from services.ingress.http.media_types import EVENTS_TYPE, wanted
from services.ingress.http.multipart import Uploads
from services.ingress.http.streaming import HEARTBEAT, HEARTBEAT_S, EventStream, Paced, error_event
from services.ingress.jobs.answers import Message, Messages, answer_of_job
from services.ingress.jobs.orders import JobOrders, fingerprint_of, key_of, owner_of
from services.ingress.jobs.schemas import JOB_EVENTS, STATUSES, JobAnswer, JobBody, JobList, typed_job, webhook_of
from services.ingress.orders.guides import taken_out
from services.ingress.orders.orders import Orders
from services.ingress.wire.answers import ERRORS
from services.ingress.wire.bodies import one_of_each
from services.ingress.wire.queries import USER, query_field, with_query
from services.ingress.wire.schemas import ErrorAnswer
from services.jobs.desk import END
from services.jobs.records import JobNews, JobStatus, JobView
from services.jobs.state import PATH, address_of, state_of

_SCHEMAS = "#/components/schemas/"
_MOST_LISTED, _LISTED = 100, 20
_LONGEST_ID = 64
_ID = Annotated[str, Path(alias="id", description="of the job")]


@dataclass(frozen=True, slots=True)
class JobsFace:
    """What the face needs of the rest of the server; `http` and `private` say where webhooks may lead besides.

    `uploads` bounds how many requests' pictures are in memory.
    """

    orders: Orders
    jobs: JobOrders
    uploads: Uploads
    http: bool = False
    private: bool = False
    heartbeat_s: float = HEARTBEAT_S
    clock: Callable[[], float] = time.time

    def router(self) -> APIRouter:
        """The face's routes."""
        router = APIRouter(prefix=PATH, tags=["jobs"])
        plain: dict[str, Any] = {"response_class": Response}
        router.add_api_route(
            "", self.submit, methods=["POST"], status_code=202, responses=_ACCEPTED, openapi_extra=_BODY, **plain
        )
        router.add_api_route("", self.page, methods=["GET"], responses=_LIST, openapi_extra=_PAGE, **plain)
        router.add_api_route("/{id}", self.show, methods=["GET"], responses=_SHOWN, openapi_extra=_USER, **plain)
        router.add_api_route("/{id}", self.cancel, methods=["DELETE"], responses=_ENDED, openapi_extra=_USER, **plain)
        router.add_api_route(
            "/{id}/events", self.events, methods=["GET"], responses=_TOLD, openapi_extra=_USER, **plain
        )
        router.add_api_websocket_route("/{id}/ws", self.ws)
        return router

    async def submit(self, request: Request) -> Response:
        """Accept a request for pictures, which are drawn in their turn whether or not somebody waits."""
        if wanted(request.headers.get("accept")) != "json":
            raise NotAcceptableError(f"accept: must name {JSON_TYPE}; the job's state is JSON")
        with ExitStack() as held:
            parsed = await read_object(request, self.uploads, uploading := held.enter_context(ExitStack()))
            body, guides = await asyncio.to_thread(taken_out, typed_job(parsed), self.orders.rules, uploading)
            del parsed
            webhook = webhook_of(body, http=self.http, private=self.private)
            key = key_of(request)
            if key is not None:
                # what came before takes nothing of anybody's limits
                known = await self.jobs.jobs.find(owner_of(request, body.user), key, fingerprint_of(body))
                if known is not None:
                    return self._accepted(request, known)
            asked = await self.orders.asked(_followed(body), "json", caller(request), held, guides=guides)
            links = body.response_format == "url"
            job, _new = await self.jobs.submit(asked, body, request, webhook=webhook, links=links)
        return self._accepted(request, job)

    async def page(self, request: Request) -> Response:
        """List the caller's jobs, the newest first, without their pictures."""
        query = one_of_each(request.query_params.multi_items(), ("after", "limit", "status", "user"))
        owner, after = owner_of(request, query.get("user")), query.get("after")
        found = await self.jobs.jobs.page(owner, _limit(query), None if after is None else _id(after), _status(query))
        address, now = self.jobs.address.of(request), self.clock()
        data = [state_of(job, address, now) for job in found.jobs]
        first, last = (data[0].id, data[-1].id) if data else (None, None)
        return _json(JobList(data=data, first_id=first, last_id=last, has_more=found.has_more))

    async def show(self, request: Request, job: _ID) -> Response:
        """Tell what has become of a job, with its pictures once it is completed."""
        return await self._shown(request, await self.jobs.jobs.show(_id(job), _owner(request)))

    async def cancel(self, request: Request, job: _ID) -> Response:
        """End a job that has not ended; what is being drawn of it stops."""
        return await self._shown(request, await self.jobs.jobs.cancel(_id(job), _owner(request)))

    async def events(self, request: Request, job: _ID) -> Response:
        """Tell of a job's steps, previews and end as server-sent events."""
        query = one_of_each(request.query_params.multi_items(), ("after", "user"))
        after = request.headers.get("last-event-id", query.get("after", ""))
        owner = owner_of(request, query.get("user"))
        with ExitStack() as held:
            news = Paced(self.jobs.jobs.follow(_id(job), owner, after), self.heartbeat_s)
            held.callback(news.close)
            first = await anext(news)
            while after == END and first is None:
                first = await anext(news)
            if after == END and first is not None and first.id == END:
                # by this status a browser learns that it need not ask again
                return Response(status_code=HTTPStatus.NO_CONTENT)
            events = self._events(self._messages(request, news, first))
            return EventStream(events, {}, held.pop_all())

    async def ws(self, socket: WebSocket, job: _ID) -> None:
        """Tell of a job's steps, previews and end by WebSocket, in the same messages."""
        await socket.accept()
        sending = asyncio.create_task(self._send(socket, job))
        leaving = asyncio.create_task(_left(socket))
        try:
            await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (sending, leaving):
                task.cancel()
            await asyncio.gather(sending, leaving, return_exceptions=True)

    async def _send(self, socket: WebSocket, job: str) -> None:
        code = WS_1000_NORMAL_CLOSURE
        try:
            query = one_of_each(socket.query_params.multi_items(), ("after", "user"))
            owner = owner_of(socket, query.get("user"))
            news = Paced(self.jobs.jobs.follow(_id(job), owner, query.get("after", "")), self.heartbeat_s)
            with ExitStack() as held:
                held.callback(news.close)
                async for message in self._messages(socket, news, await anext(news)):
                    if message is not None:
                        await socket.send_text(message.as_text())
        except Exception as error:  # noqa: BLE001 - it was accepted already
            code = WS_1008_POLICY_VIOLATION if isinstance(error, CallerError) else WS_1011_INTERNAL_ERROR
            with suppress(RuntimeError):
                await socket.send_text(bytes(answer(error, 1).body).decode())
        with suppress(RuntimeError):
            # or it has gone away
            await socket.close(code)

    async def _messages(
        self, request: HTTPConnection, news: Paced[JobNews], first: JobNews | None
    ) -> AsyncGenerator[Message | None]:
        address, one = self.jobs.address.of(request), first
        told: Messages | None = None
        while True:
            if one is None:
                yield None
            else:
                if isinstance(one.what, JobView):
                    # what is known of it first are the pictures that it is about
                    told = Messages(one.what, address) if told is None else told
                assert told is not None, "the job comes first"
                for message in await told.of(one, self.clock()):
                    yield message
            try:
                one = await anext(news)
            except StopAsyncIteration:
                return

    async def _events(self, messages: AsyncGenerator[Message | None]) -> AsyncGenerator[bytes]:
        try:
            async for message in messages:
                yield HEARTBEAT if message is None else message.as_event()
        except Exception as error:  # noqa: BLE001 - the status is out already
            yield error_event(error)

    async def _shown(self, request: Request, job: JobView) -> Response:
        return _json(await answer_of_job(job, self.jobs.address.of(request), self.clock()))

    def _accepted(self, request: Request, job: JobView) -> Response:
        address = self.jobs.address.of(request)
        response = _json(state_of(job, address, self.clock()), HTTPStatus.ACCEPTED)
        response.headers["location"] = address_of(address, job.id)
        return response


def add_job_schemas(schema: dict[str, Any]) -> None:
    """Add the schemas of a job's body and of its events to an OpenAPI document; the routes read and write them."""
    schemas = schema["components"]["schemas"]
    for model in (JobBody, JobAnswer, JobList, *JOB_EVENTS):
        made = model.model_json_schema(ref_template=f"{_SCHEMAS}{{model}}")
        schemas.update(made.pop("$defs", {}))
        schemas[model.__name__] = made


def _followed(body: JobBody) -> JobBody:
    """The body as it is checked: previews are for whoever follows, and links say nothing against that."""
    return body.model_copy(update={"stream": True, "progress": True, "response_format": None})


def _owner(request: Request) -> str:
    return owner_of(request, one_of_each(request.query_params.multi_items(), ("user",)).get("user"))


def _id(text: str) -> str:
    # longer ones are nobody's
    return text[: _LONGEST_ID + 1]


def _limit(query: dict[str, str]) -> int:
    given = query.get("limit", str(_LISTED))
    if not (given.isascii() and given.isdecimal() and len(given) <= 3 and 1 <= int(given) <= _MOST_LISTED):
        raise FieldError(f"limit={given[:16]!r}: must be a whole number between 1 and {_MOST_LISTED}", "limit")
    return int(given)


def _status(query: dict[str, str]) -> JobStatus | None:
    given = query.get("status")
    found = next((status for status in STATUSES if status == given), None)
    if given is not None and found is None:
        raise FieldError(f"status={given[:16]!r}: must be one of {', '.join(STATUSES)}", "status")
    return found


def _json(content: BaseModel, status: int = HTTPStatus.OK) -> Response:
    headers = {"cache-control": "no-store"}
    return Response(content.model_dump_json(), status_code=status, media_type=JSON_TYPE, headers=headers)


async def _left(socket: WebSocket) -> None:
    """Wait until whoever listens has gone away; what they say is not read."""
    while (await socket.receive())["type"] != "websocket.disconnect":
        pass


_USER = with_query(USER)
_PAGE = with_query(
    query_field("after", "the id of a job, older ones than which are listed"),
    query_field(
        "limit", f"how many, {_LISTED} if left out", {"type": "integer", "minimum": 1, "maximum": _MOST_LISTED}
    ),
    query_field("status", "only those", {"type": "string", "enum": list(STATUSES)}),
    USER,
)
_BODY = {
    "requestBody": {"required": True, "content": {JSON_TYPE: {"schema": {"$ref": f"{_SCHEMAS}JobBody"}}}},
    "parameters": [
        {
            "name": "Idempotency-Key",
            "in": "header",
            "required": False,
            "schema": {"type": "string"},
            "description": "sent again with the same body it is the same job; with another body it is refused",
        }
    ],
}
_GONE: dict[int | str, dict[str, Any]] = {
    404: {"model": ErrorAnswer, "description": "there is no such job for this caller"},
    410: {"model": ErrorAnswer, "description": "the job is kept no more"},
    422: ERRORS[422],
    503: ERRORS[503],
}


def _of(model: str) -> dict[str, Any]:
    return {"content": {JSON_TYPE: {"schema": {"$ref": f"{_SCHEMAS}{model}"}}}}


_ACCEPTED: dict[int | str, dict[str, Any]] = {
    202: {"description": "the job is kept; its state, and where it is to be seen", **_of("JobState")},
    409: {"model": ErrorAnswer, "description": "the idempotency key came with another body"},
    507: {"model": ErrorAnswer, "description": "the disk does not take it"},
    **ERRORS,
}
_LIST: dict[int | str, dict[str, Any]] = {200: {"description": "the jobs", **_of("JobList")}, **_GONE}
_SHOWN: dict[int | str, dict[str, Any]] = {200: {"description": "the job", **_of("JobAnswer")}, **_GONE}
_ENDED: dict[int | str, dict[str, Any]] = {
    200: {"description": "the job, which is cancelled", **_of("JobAnswer")},
    409: {"model": ErrorAnswer, "description": "it has ended otherwise"},
    **_GONE,
}
_TOLD: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "events",
        "content": {EVENTS_TYPE: {"schema": {"oneOf": [{"$ref": f"{_SCHEMAS}{one.__name__}"} for one in JOB_EVENTS]}}},
    },
    204: {"description": "the last event was seen already"},
    **_GONE,
}
