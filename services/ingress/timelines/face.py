"""The timelines face: what became of an answered request when, span by span."""

from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request

from services.ingress.access.callers import caller
from services.ingress.timelines.schemas import TimelineAnswer, TimelineSpan
from services.ingress.wire.answers import ERRORS, pin_of
from services.ingress.wire.bodies import one_of_each, tenant_of
from services.ingress.wire.queries import USER, with_query
from services.timelines.memory import Timeline, TimelineNotFoundError
from services.timelines.spans import Span

_DIGITS = 6


@dataclass(frozen=True, slots=True)
class TimelinesFace:
    """What the face needs of the rest of the server; `find` takes a request's id and its owner."""

    find: Callable[[str, str], Awaitable[Timeline | None]]

    def router(self) -> APIRouter:
        """The face's routes."""
        router = APIRouter(prefix="/v1/requests", tags=["requests"])
        router.add_api_route(
            "/{id}/timeline",
            self.show,
            methods=["GET"],
            response_model=TimelineAnswer,
            responses=_ANSWERS,
            openapi_extra=with_query(USER),
        )
        return router

    async def show(
        self, request: Request, request_id: Annotated[str, Path(alias="id", description="its answer's `x-request-id`")]
    ) -> TimelineAnswer:
        """Tell what became of a request when."""
        user = one_of_each(request.query_params.multi_items(), ("user",)).get("user")
        found = await self.find(request_id, caller(request).owner_of(tenant_of(user)))
        if found is None:
            raise TimelineNotFoundError("id: there is no such timeline, or not any more", "id")
        return _answer(found)


def _answer(timeline: Timeline) -> TimelineAnswer:
    whole = timeline.span
    phases: defaultdict[str, float] = defaultdict(float)
    for span in whole.walk():
        if not span.parts:
            phases[span.name] += span.seconds
    return TimelineAnswer(
        request_id=timeline.request_id,
        started_at=whole.start,
        total_s=round(whole.seconds, _DIGITS),
        phases={name: round(seconds, _DIGITS) for name, seconds in phases.items()},
        spans=list(_flat(whole)),
    )


def _flat(whole: Span) -> Iterator[TimelineSpan]:
    """The spans depth first, each with the number of the one that it is part of."""
    waiting: list[tuple[Span, int | None, str | None]] = [(whole, None, None)]
    number = 0
    while waiting:
        span, parent, replica = waiting.pop()
        where = replica if span.replica is None else span.replica
        yield TimelineSpan(
            id=number,
            parent=parent,
            name=span.name,
            stage=span.stage,
            component=None if span.component is None else pin_of(span.component),
            replica=where or None,
            start_s=round(span.start - whole.start, _DIGITS),
            seconds=round(span.seconds, _DIGITS),
            facts=dict(span.facts),
        )
        waiting += [(part, number, where) for part in reversed(span.parts)]
        number += 1


_ANSWERS: dict[int | str, dict[str, Any]] = {
    404: {**ERRORS[404], "description": "no such timeline, or not any more, or another's"},
    **{status: ERRORS[status] for status in (422, 500, 503)},
}
