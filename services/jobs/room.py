"""How many jobs are kept, in how many bytes, and for how long."""

from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

from sqlalchemy import BigInteger, Cast, Connection, cast, delete, func, insert, select

from services.errors import FileNotKeptError
from services.jobs.settings import JobsArgs
from services.jobs.tables import DELIVERIES, GONE, JOBS, PICTURES

Dropped: TypeAlias = Literal["expired", "full", "unreadable"]


def total_size() -> Cast[int]:
    """What all jobs take together, in bytes."""
    # PostgreSQL sums long numbers up to a decimal one
    return cast(func.coalesce(func.sum(JOBS.c.size), 0), BigInteger)


class Room:
    """Drops jobs that have ended: after a time, and those that ended first where others need their room.

    That a job was there is remembered as long again, of as many as are kept at most.
    """

    def __init__(
        self, settings: JobsArgs, dropped: Callable[[Dropped, int], object], clock: Callable[[], float]
    ) -> None:
        self._settings = settings
        self._dropped = dropped
        self._clock = clock

    def make(self, connection: Connection, size: int, *, jobs: int = 0, spare: int | None = None) -> bool:
        """Make room for so many bytes and jobs, and tell whether there is; the job of number `spare` stays."""
        count, used = connection.execute(select(func.count(), total_size())).one()
        most, most_bytes = self._settings.most - jobs, self._settings.most_bytes - size
        if count <= most and used <= most_bytes:
            return True
        ended = select(JOBS.c.number, JOBS.c.size).where(JOBS.c.ended.is_not(None), JOBS.c.number != (spare or 0))
        leaving = []
        for number, freed in connection.execute(ended.order_by(JOBS.c.ended, JOBS.c.number)):
            if count <= most and used <= most_bytes:
                break
            leaving.append(number)
            count, used = count - 1, used - freed
        if count > most or used > most_bytes:
            # what would not be enough is left as it is
            return False
        self._drop(connection, leaving, "full")
        return True

    def clear(self, connection: Connection, numbers: Sequence[int]) -> None:
        """Drop jobs that cannot be read."""
        self._drop(connection, numbers, "unreadable")

    def refusal(self, size: int) -> FileNotKeptError:
        """The error of pictures of so many bytes for which there is no room."""
        return FileNotKeptError(f"pictures of {size} bytes have no room in jobs.most_bytes={self._settings.most_bytes}")

    def sweep(self, connection: Connection) -> None:
        """Drop what has been kept for long enough, and forget what was."""
        past = self._clock() - self._settings.keep_s
        ended = connection.execute(select(JOBS.c.number).where(JOBS.c.ended <= past)).scalars().all()
        self._drop(connection, ended, "expired")
        connection.execute(delete(GONE).where(GONE.c.since <= past))
        newest = select(GONE.c.id).order_by(GONE.c.since.desc()).limit(self._settings.most)
        connection.execute(delete(GONE).where(GONE.c.id.not_in(newest)))

    def _drop(self, connection: Connection, numbers: Sequence[int], why: Dropped) -> None:
        if not numbers:
            return
        now = self._clock()
        for number in numbers:
            job = connection.execute(select(JOBS.c.id, JOBS.c.owner).where(JOBS.c.number == number)).one()
            connection.execute(insert(GONE).values(id=job.id, owner=job.owner, since=now))
            connection.execute(delete(PICTURES).where(PICTURES.c.job == number))
            connection.execute(delete(DELIVERIES).where(DELIVERIES.c.job == number))
            connection.execute(delete(JOBS).where(JOBS.c.number == number))
        self._dropped(why, len(numbers))
