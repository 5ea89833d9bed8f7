"""The store of jobs as its runner sees it: whose turn it is, and how what was begun has ended."""

import logging
import time
from collections.abc import Callable
from typing import Any
from zipfile import BadZipFile

from sqlalchemy import Connection, Engine, Row, func, insert, select, update

from services.files.pictures import Link
from services.jobs.endings import end
from services.jobs.errors import SupersededError
from services.jobs.orders import read
from services.jobs.records import ClaimedJob, DueDelivery, JobFailure, Webhook
from services.jobs.room import Room
from services.jobs.rows import job_of, read_terms, written_failure, written_result
from services.jobs.settings import JobsArgs
from services.jobs.tables import DELIVERIES, JOBS, PICTURES, RUNNER
from services.messages import Drawn

# a job that was begun so often, and never came to its end, may be what ends its runners
MOST_BEGUN = 16
# a runner that did not say for so long that it is there is gone
AWAY_S = 30.0
_GIVEN_UP = JobFailure(
    status=500,
    message=f"the job was begun {MOST_BEGUN} times and never came to an end; it is not tried again",
    type="server_error",
    code="given_up",
    should_retry=False,
)

# some at a time: together they may hold more than the memory
_ALL = select(JOBS).execution_options(yield_per=16)

_log = logging.getLogger("ray.serve")


class Work:
    """What one runner has of the store; another one that takes it over puts an end to that.

    Every change asks first whether the runner still has the store and the job: so none has two results.
    """

    def __init__(self, engine: Engine, settings: JobsArgs, room: Room, clock: Callable[[], float] = time.time) -> None:
        """Take over the store: jobs that were being drawn are next, in their order. `clock` is seconds since 1970."""
        self._engine = engine
        self._settings = settings
        self._room = room
        self._clock = clock
        with engine.begin() as connection:
            self.epoch = self._take_over(connection)

    def beat(self) -> None:
        """Say that this runner is there.

        Raises:
            SupersededError: another runner has the store.
        """
        with self._engine.begin() as connection:
            self._require(connection)
            connection.execute(update(RUNNER).values(seen=self._clock()))

    def take_over_again(self) -> bool:
        """Take over the store once the runner that has it was not there for a time, and tell whether that was done."""
        with self._engine.begin() as connection:
            if self._clock() - connection.execute(select(RUNNER.c.seen)).scalar_one() < AWAY_S:
                return False
            self.epoch = self._take_over(connection)
            return True

    def claim(self) -> ClaimedJob | None:
        """Begin the job whose turn it is, None where none may begin now.

        Raises:
            SupersededError: another runner has the store.
        """
        with self._engine.begin() as connection:
            self._require(connection)
            now = self._clock()
            row = self._next(connection, now)
            if row is None:
                return None
            self._change(connection, row, status="generating", epoch=self.epoch, begun=row.begun + 1, started=now)
            connection.execute(update(RUNNER).where(RUNNER.c.turn < row.turn).values(turn=row.turn))
            order = read(row.ordered, row.source)
            return ClaimedJob(row.number, row.id, order, read_terms(row.terms), row.created, row.begun + 1)

    def put_back(self, number: int, wait_s: float, *, begun: bool) -> bool:
        """Let a job wait in its place for at least so many seconds, and tell whether it does; `begun`: that counts."""
        with self._engine.begin() as connection:
            row = self._mine(connection, number)
            if row is None:
                return False
            count = row.begun if begun else row.begun - 1
            due = self._clock() + wait_s
            self._change(connection, row, status="queued", begun=count, due=due, started=None)
            return True

    def complete(self, number: int, drawn: Drawn, links: tuple[Link, ...]) -> bool:
        """Keep the pictures of a job, and tell whether they count; of those with `links` the files are elsewhere.

        Raises:
            FileNotKeptError: there is no room for them.
        """
        with self._engine.begin() as connection:
            row = self._mine(connection, number)
            if row is None:
                return False
            size = end(connection, row, "completed", self._clock(), written_result(drawn, links))
            if links:
                return True
            files = [picture.data for picture in drawn.pictures]
            taken = sum(map(len, files))
            if not self._room.make(connection, taken, spare=number):
                raise self._room.refusal(taken)
            connection.execute(update(JOBS).where(JOBS.c.number == number).values(size=size + taken))
            rows = [{"job": number, "picture": index, "data": data} for index, data in enumerate(files)]
            connection.execute(insert(PICTURES), rows)
            return True

    def fail(self, number: int, failure: JobFailure) -> bool:
        """End a job without pictures, and tell whether that counts."""
        with self._engine.begin() as connection:
            row = self._mine(connection, number)
            if row is None:
                return False
            end(connection, row, "failed", self._clock(), written_failure(failure))
            return True

    def due_deliveries(self, most: int) -> list[DueDelivery]:
        """The ends of jobs that are to be told now."""
        due = (
            select(JOBS, *(DELIVERIES.c[name].label(f"hook_{name}") for name in ("url", "secret", "attempts")))
            .join(DELIVERIES, DELIVERIES.c.job == JOBS.c.number)
            .where(DELIVERIES.c.state == "pending", DELIVERIES.c.due <= self._clock())
            .order_by(DELIVERIES.c.due)
            .limit(most)
        )
        with self._engine.begin() as connection:
            return [self._due(connection, row) for row in connection.execute(due).all()]

    def told(self, number: int, status: int | None, *, delivered: bool, again_s: float | None) -> None:
        """Note an attempt to tell of a job's end; with `again_s` it is told again in so many seconds."""
        state = "delivered" if delivered else "given_up" if again_s is None else "pending"
        due = self._clock() + (again_s or 0.0)
        changed = {"state": state, "attempts": DELIVERIES.c.attempts + 1, "status": status, "due": due}
        if state != "pending":
            # nothing signs with it any more
            changed["secret"] = None
        with self._engine.begin() as connection:
            connection.execute(update(DELIVERIES).where(DELIVERIES.c.job == number).values(changed))

    def _take_over(self, connection: Connection) -> int:
        now = self._clock()
        connection.execute(update(RUNNER).values(epoch=RUNNER.c.epoch + 1, seen=now))
        # one that another release wrote would hold up all others, and nobody could be told of it
        unreadable = [row.number for row in connection.execute(_ALL) if not _readable(connection, row)]
        if unreadable:
            _log.error("jobs: %d of the store cannot be read by this release, and are dropped", len(unreadable))
            self._room.clear(connection, unreadable)
        for row in connection.execute(select(JOBS).where(JOBS.c.status == "generating")).all():
            if row.begun >= MOST_BEGUN:
                end(connection, row, "failed", now, written_failure(_GIVEN_UP))
            else:
                self._change(connection, row, status="queued", due=0.0, started=None)
        epoch: int = connection.execute(select(RUNNER.c.epoch)).scalar_one()
        return epoch

    def _due(self, connection: Connection, row: Row[Any]) -> DueDelivery:
        job = job_of(connection, row, self._settings.keep_s, pictures=False)
        return DueDelivery(row.number, Webhook(row.hook_url, row.hook_secret), row.hook_attempts + 1, job)

    def _next(self, connection: Connection, now: float) -> Row[Any] | None:
        at_work = select(JOBS.c.owner, func.sum(JOBS.c.pictures)).where(JOBS.c.status == "generating")
        busy = dict(connection.execute(at_work.group_by(JOBS.c.owner)).all())
        waiting = select(JOBS.c.number, JOBS.c.owner, JOBS.c.pictures, JOBS.c.most_at_once)
        waiting = waiting.where(JOBS.c.status == "queued", JOBS.c.due <= now).order_by(JOBS.c.turn, JOBS.c.number)
        for number, owner, pictures, most in connection.execute(waiting):
            if most is None or busy.get(owner, 0) + pictures <= most:
                return connection.execute(select(JOBS).where(JOBS.c.number == number)).one()
        return None

    def _require(self, connection: Connection) -> None:
        if connection.execute(select(RUNNER.c.epoch)).scalar_one() != self.epoch:
            raise SupersededError("another runner has the store of jobs")

    def _mine(self, connection: Connection, number: int) -> Row[Any] | None:
        """A job that this runner draws; None where it was cancelled, or another runner has it."""
        ours = (JOBS.c.number == number, JOBS.c.status == "generating", JOBS.c.epoch == self.epoch)
        return connection.execute(select(JOBS).where(*ours)).one_or_none()

    @staticmethod
    def _change(connection: Connection, row: Row[Any], **values: Any) -> None:
        connection.execute(update(JOBS).where(JOBS.c.number == row.number).values(values))


def _readable(connection: Connection, row: Row[Any]) -> bool:
    try:
        read(row.ordered, row.source)
        job_of(connection, row, 0.0, pictures=False)
    except (ValueError, LookupError, OSError, BadZipFile):
        return False
    return True
