"""Requests of A1111's face that are under way: how far each is, and how it is broken off."""

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from services.errors import FieldError
from services.messages import Order, Progress

Result = TypeVar("Result")

_LONGEST_ID = 128


@dataclass(slots=True, eq=False)
class Task:
    """A request that is drawn in `batches`, one after the other; `began` is seconds since 1970."""

    id: str
    owner: str
    batches: int
    began: float
    interrupted: bool = False
    skipped: bool = False
    batch: int = 0
    order: Order | None = None
    preview: Progress | None = None
    _steps: dict[int, Progress] = field(default_factory=dict)
    _drawing: asyncio.Future[Any] | None = None

    async def batch_of(self, batch: int, order: Order, drawing: Awaitable[Result]) -> Result | None:
        """What comes of drawing a batch; None where somebody broke it off."""
        self.batch, self.order, self.preview, self.skipped = batch, order, None, False
        self._steps.clear()
        self._drawing = under_way = asyncio.ensure_future(drawing)
        try:
            return await under_way
        except asyncio.CancelledError:
            this = asyncio.current_task()
            # whoever asked may have gone away too
            if not (self.interrupted or self.skipped) or (this is not None and this.cancelling()):
                raise
            return None
        finally:
            self._drawing = None
            under_way.cancel()

    def tell(self, progress: Progress) -> None:
        """Note how far a picture of the batch is."""
        self._steps[progress.image] = progress
        if progress.preview is not None:
            self.preview = progress

    def interrupt(self) -> None:
        """Break off this batch, and begin no other."""
        self.interrupted = True
        self._break_off()

    def skip(self) -> None:
        """Break off this batch; those after it are drawn."""
        self.skipped = True
        self._break_off()

    @property
    def steps(self) -> tuple[int, int]:
        """The steps that every picture of the batch has done, and those that there are."""
        told, images = list(self._steps.values()), 1 if self.order is None else self.order.request.n
        if not told:
            return 0, 0
        return min(one.step for one in told) if len(told) == images else 0, told[0].steps

    @property
    def share(self) -> float:
        """How much of all batches is drawn, 0 to 1."""
        images = 1 if self.order is None else self.order.request.n
        walked = sum(one.step / one.steps for one in self._steps.values()) / images
        return min(1.0, (self.batch + walked) / self.batches)

    def _break_off(self) -> None:
        if self._drawing is not None:
            self._drawing.cancel()


@dataclass(frozen=True, slots=True)
class Tasks:
    """The tasks under way in one ingress replica, the oldest first; one event loop uses them."""

    clock: Callable[[], float] = time.time
    _tasks: dict[tuple[str, str], Task] = field(default_factory=dict)

    @contextmanager
    def begun(self, id_: str | None, owner: str, batches: int) -> Iterator[Task]:
        """A block in which a caller's task is under way, by an id of its own if none is given.

        Raises:
            FieldError: the id is too long, or another task of the caller's has it.
        """
        name = id_ if id_ else uuid.uuid4().hex
        if len(name) > _LONGEST_ID:
            raise FieldError(
                f"force_task_id: has {len(name)} characters, must have at most {_LONGEST_ID}", "force_task_id"
            )
        if (owner, name) in self._tasks:
            raise FieldError("force_task_id: a task of this id is under way", "force_task_id")
        task = Task(name, owner, batches, self.clock())
        self._tasks[owner, name] = task
        try:
            yield task
        finally:
            del self._tasks[owner, name]

    def find(self, owner: str, id_: str | None) -> Task | None:
        """A caller's task, the oldest where no id is given."""
        if id_ is not None:
            return self._tasks.get((owner, id_))
        return next(iter(self.of(owner)), None)

    def of(self, owner: str) -> Sequence[Task]:
        """All tasks of a caller's, the oldest first."""
        return [task for task in self._tasks.values() if task.owner == owner]
