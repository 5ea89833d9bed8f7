"""The store of jobs as its callers see it: bounded, each job its owner's alone."""

import re
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from typing import Any

from sqlalchemy import Connection, Engine, Row, func, insert, select
from sqlalchemy.exc import DBAPIError

from services.errors import UnavailableError
from services.jobs.database import is_busy, reading
from services.jobs.endings import end
from services.jobs.errors import (
    IdempotencyConflictError,
    JobEndedError,
    JobExpiredError,
    JobNotFoundError,
    JobNotKeptError,
    JobsFullError,
)
from services.jobs.orders import written, written_pictures
from services.jobs.records import ENDED, JobPage, JobStatus, JobView, Submission
from services.jobs.room import Room, total_size
from services.jobs.rows import job_of, written_terms
from services.jobs.settings import JobsArgs
from services.jobs.tables import DELIVERIES, GONE, JOBS, RUNNER

_SECRET_BYTES = 16
_PREFIX = "job-"
_ID = re.compile(rf"{_PREFIX}[A-Za-z0-9_-]{{22}}")
_WAITING = ("queued", "generating")


class JobStore:
    """Accepts jobs, tells of them and cancels them; usable from any number of threads.

    Owners take turns: by the pictures that each has before in the queue, as in start-time fair queueing (Goyal, Vin and
    Cheng, 1996). Of the owner, and of what tells one request from another, only digests are kept.
    """

    def __init__(
        self,
        engine: Engine,
        settings: JobsArgs,
        room: Room,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Keep jobs in a database, as many as there is `room` for; `clock` is seconds since 1970."""
        self._engine = engine
        self._settings = settings
        self._room = room
        self._clock = clock

    def submit(self, given: Submission) -> tuple[JobView, bool]:
        """Keep a job, and tell whether it is a new one: with a key that came before it is that of then.

        Raises:
            IdempotencyConflictError: the key came with another request.
            JobsFullError: as many wait as may, or there is no room.
            JobNotKeptError: the disk does not take it.
            UnavailableError: the store does not answer, as in all that follow.
        """
        with self._asked() as connection:
            known = self._of_key(connection, given.owner, given.key, given.fingerprint)
            if known is not None:
                return self._view(connection, known), False
            return self._view(connection, self._insert(connection, given)), True

    def find(self, owner: str, key: str, fingerprint: str) -> JobView | None:
        """The job that came with an idempotency key, None where none did.

        Raises:
            IdempotencyConflictError: the key came with another request.
        """
        with self._asked(reads=True) as connection:
            known = self._of_key(connection, owner, key, fingerprint)
            return None if known is None else self._view(connection, known)

    def view(self, id_: str, owner: str) -> JobView:
        """A job as it is now, with its pictures.

        Raises:
            JobNotFoundError: there is none of that id, or it is another's.
            JobExpiredError: it is kept no more.
        """
        with self._asked(reads=True) as connection:
            return self._view(connection, self._row(connection, id_, owner))

    def page(self, owner: str, limit: int, after: str | None = None, status: JobStatus | None = None) -> JobPage:
        """At most so many of an owner's jobs, the newest first and without their pictures; those older than `after`.

        Raises:
            JobNotFoundError: there is no job `after` of this owner.
            JobExpiredError: it is kept no more.
        """
        asked = select(JOBS).where(JOBS.c.owner == digest(owner)).order_by(JOBS.c.number.desc()).limit(limit + 1)
        if status is not None:
            asked = asked.where(JOBS.c.status == status)
        with self._asked(reads=True) as connection:
            if after is not None:
                asked = asked.where(JOBS.c.number < self._row(connection, after, owner).number)
            rows = connection.execute(asked).all()
            keep_s = self._settings.keep_s
            jobs = tuple(job_of(connection, row, keep_s, pictures=False) for row in rows[:limit])
        return JobPage(jobs, len(rows) > limit)

    def cancel(self, id_: str, owner: str) -> tuple[JobView, bool]:
        """End a job that has not ended, and tell whether that was done now; one that was cancelled before stays so.

        Raises:
            JobNotFoundError: there is none of that id, or it is another's.
            JobExpiredError: it is kept no more.
            JobEndedError: it is completed or has failed.
        """
        with self._asked() as connection:
            row = self._row(connection, id_, owner)
            if row.status in ("completed", "failed"):
                raise JobEndedError(f"the job is {row.status}, and cannot be cancelled any more")
            new = row.status != "cancelled"
            if new:
                end(connection, row, "cancelled", self._clock())
            return self._view(connection, self._row(connection, id_, owner)), new

    def ended(self, ids: Sequence[str]) -> list[str]:
        """Those of these jobs that do not wait and are not being drawn."""
        with self._engine.begin() as connection:
            going = select(JOBS.c.id).where(JOBS.c.status.in_(_WAITING))
            under_way = set(connection.execute(going).scalars())
        return [id_ for id_ in ids if id_ not in under_way]

    def sweep(self) -> None:
        """Drop what has been kept for long enough."""
        with self._engine.begin() as connection:
            self._room.sweep(connection)

    def holds(self) -> tuple[dict[JobStatus, int], int]:
        """How many jobs there are of each status, and what they take together, in bytes."""
        with self._engine.begin() as connection:
            counted = connection.execute(select(JOBS.c.status, func.count()).group_by(JOBS.c.status))
            found: dict[JobStatus, int] = dict(counted.all())
            size = connection.execute(select(total_size())).scalar_one()
        return {status: found.get(status, 0) for status in ("queued", "generating", *ENDED)}, size

    @contextmanager
    def _asked(self, *, reads: bool = False) -> Iterator[Connection]:
        """A transaction for a caller, who is told where the store cannot do it.

        Raises:
            UnavailableError: others have it for too long, or it is away.
            JobNotKeptError: it takes no changes.
        """
        try:
            with (self._engine if not reads else reading(self._engine)).begin() as connection:
                yield connection
        except DBAPIError as error:
            if reads or is_busy(error):
                raise UnavailableError("the store of jobs does not answer just now; try again later") from None
            raise JobNotKeptError("the store of jobs takes no changes just now; try again later") from None

    def _insert(self, connection: Connection, given: Submission) -> Row[Any]:
        owner, order = digest(given.owner), given.order
        ordered, source = written(order), written_pictures(order)
        size = len(ordered) + (0 if source is None else len(source))
        self._require_place(connection)
        if not self._room.make(connection, size, jobs=1):
            raise JobsFullError("there is no room for another job, and none has ended; try again later")
        id_ = _PREFIX + secrets.token_urlsafe(_SECRET_BYTES)
        values = {
            "id": id_,
            "owner": owner,
            "status": "queued",
            "turn": _turn(connection, owner),
            "due": 0.0,
            "begun": 0,
            "pictures": order.request.n,
            "most_at_once": given.terms.most_at_once,
            "created": self._clock(),
            "key": None if given.key is None else digest(given.key),
            "fingerprint": given.fingerprint,
            "ordered": ordered,
            "source": source,
            "terms": written_terms(given.terms),
            "size": size,
        }
        connection.execute(insert(JOBS).values(values))
        row = self._row(connection, id_, given.owner)
        if (hook := given.webhook) is not None:
            waiting = {"job": row.number, "url": hook.url, "secret": hook.secret, "state": "pending", "attempts": 0}
            connection.execute(insert(DELIVERIES).values(waiting))
        return row

    def _require_place(self, connection: Connection) -> None:
        waiting = connection.execute(
            select(func.count()).select_from(JOBS).where(JOBS.c.status == "queued")
        ).scalar_one()
        if waiting >= self._settings.most_queued:
            raise JobsFullError(f"{waiting} jobs wait, which is the most that may; try again later")

    def _of_key(self, connection: Connection, owner: str, key: str | None, fingerprint: str) -> Row[Any] | None:
        if key is None:
            return None
        asked = select(JOBS).where(JOBS.c.owner == digest(owner), JOBS.c.key == digest(key))
        row = connection.execute(asked).one_or_none()
        if row is not None and row.fingerprint != fingerprint:
            raise IdempotencyConflictError("idempotency-key: came before with another request", "idempotency-key")
        return row

    def _row(self, connection: Connection, id_: str, owner: str) -> Row[Any]:
        ours = digest(owner)
        if _ID.fullmatch(id_) is None:
            # it may be no text that every database takes
            raise _not_found()
        row = connection.execute(select(JOBS).where(JOBS.c.id == id_, JOBS.c.owner == ours)).one_or_none()
        if row is not None:
            return row
        if connection.execute(select(GONE.c.id).where(GONE.c.id == id_, GONE.c.owner == ours)).scalar():
            raise JobExpiredError("id: this job is kept no more", "id")
        raise _not_found()

    def _view(self, connection: Connection, row: Row[Any]) -> JobView:
        return job_of(connection, row, self._settings.keep_s, pictures=True)


def _not_found() -> JobNotFoundError:
    # the same for all: who may not see it must not learn that it is there
    return JobNotFoundError("id: there is no such job for this caller", "id")


def digest(text: str) -> str:
    """What is kept of a name."""
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _turn(connection: Connection, owner: str) -> int:
    """After all that the owner has waiting, and not before what has begun."""
    begun = connection.execute(select(RUNNER.c.turn)).scalar_one()
    mine = select(func.max(JOBS.c.turn + JOBS.c.pictures)).where(JOBS.c.owner == owner, JOBS.c.status.in_(_WAITING))
    last: int | None = connection.execute(mine).scalar()
    return begun if last is None else max(begun, last)
