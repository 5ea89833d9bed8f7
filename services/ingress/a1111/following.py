"""A1111's progress, interrupt and skip, of the caller's own tasks."""

import asyncio
import base64
from dataclasses import dataclass
from time import localtime, strftime
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from services.errors import FieldError
from services.ingress.a1111.errors import TaskNotFoundError
from services.ingress.a1111.tasks import Task, Tasks
from services.ingress.access.callers import caller
from services.ingress.orders.events import unfinished
from services.ingress.wire.bodies import one_of_each
from services.ingress.wire.queries import query_field, with_query

_ID = "id_task"
_SKIP = "skip_current_image"
_TASK = query_field(_ID, "the force_task_id of a request; left out: the oldest's")
_WITHOUT_PREVIEW = query_field(_SKIP, "true leaves the preview out", {"type": "boolean"})
_YES, _NO = ("true", "1", "True"), ("false", "0", "False")


class State(BaseModel):
    """What A1111 tells of the task that it is at."""

    skipped: bool = Field(description="whether a batch was skipped")
    interrupted: bool = Field(description="whether it was interrupted")
    job: str = Field(description="the task's id")
    job_count: int = Field(description="how many batches it has; 0 where nothing is under way")
    job_timestamp: str = Field(description="when it began, as YYYYMMDDhhmmss")
    job_no: int = Field(description="which batch is drawn, from 0")
    sampling_step: int = Field(description="how many steps of the batch are done")
    sampling_steps: int = Field(description="how many the batch has")


class ProgressAnswer(BaseModel):
    """How far a task is."""

    progress: float = Field(description="0 to 1")
    eta_relative: float = Field(description="seconds that it may take still")
    state: State = Field(description="the task itself")
    current_image: str | None = Field(description="the newest preview, a PNG file in base64")
    textinfo: str | None = Field(None, description="always null")


_IDLE = ProgressAnswer(
    progress=0,
    eta_relative=0,
    state=State(
        skipped=False,
        interrupted=False,
        job="",
        job_count=0,
        job_timestamp="0",
        job_no=0,
        sampling_step=0,
        sampling_steps=0,
    ),
    current_image=None,
)


@dataclass(frozen=True, slots=True)
class Following:
    """Tells of tasks, and breaks them off."""

    tasks: Tasks

    def add_routes(self, router: APIRouter) -> None:
        """Add the routes to the face's."""
        plain: dict[str, Any] = {"openapi_extra": with_query(_TASK)}
        router.add_api_route(
            "/progress",
            self.progress,
            methods=["GET"],
            response_model=ProgressAnswer,
            openapi_extra=with_query(_TASK, _WITHOUT_PREVIEW),
        )
        router.add_api_route("/interrupt", self.interrupt, methods=["POST"], **plain)
        router.add_api_route("/skip", self.skip, methods=["POST"], **plain)

    async def progress(self, request: Request) -> ProgressAnswer:
        """Tell how far the caller's oldest task is, or the one that is named."""
        query = one_of_each(request.query_params.multi_items(), (_ID, _SKIP))
        without = _yes(query.get(_SKIP))
        task = self.tasks.find(caller(request).tenant, query.get(_ID))
        if task is None:
            return _IDLE
        share, passed = task.share, max(0.0, self.tasks.clock() - task.began)
        step, steps = task.steps
        return ProgressAnswer(
            progress=share,
            eta_relative=passed / share - passed if share else 0,
            state=State(
                skipped=task.skipped,
                interrupted=task.interrupted,
                job=task.id,
                job_count=task.batches,
                job_timestamp=timestamp(task.began),
                job_no=task.batch,
                sampling_step=step,
                sampling_steps=steps,
            ),
            current_image=None if without else await _preview(task),
        )

    async def interrupt(self, request: Request) -> dict[str, Any]:
        """End the caller's oldest task, or the one that is named, with the batches that it has."""
        task = self._task(request)
        if task is not None:
            task.interrupt()
        return {}

    async def skip(self, request: Request) -> dict[str, Any]:
        """Break off the batch that the caller's oldest task is at, or the one that is named; the others are drawn."""
        task = self._task(request)
        if task is not None:
            task.skip()
        return {}

    def _task(self, request: Request) -> Task | None:
        id_ = one_of_each(request.query_params.multi_items(), (_ID,)).get(_ID)
        task = self.tasks.find(caller(request).tenant, id_)
        if task is None and id_ is not None:
            raise TaskNotFoundError(f"{_ID}: no such task of yours is under way", _ID)
        return task


def timestamp(seconds: float) -> str:
    """A time as A1111 writes it."""
    return strftime("%Y%m%d%H%M%S", localtime(seconds))


async def _preview(task: Task) -> str | None:
    progress, order = task.preview, task.order
    if progress is None or progress.preview is None or order is None:
        return None
    data = await asyncio.to_thread(unfinished, progress.preview, order, progress)
    return base64.b64encode(data).decode()


def _yes(given: str | None) -> bool:
    if given is not None and given not in (*_YES, *_NO):
        raise FieldError(f"{_SKIP}={given[:16]!r}: must be true or false", _SKIP)
    return given in _YES
