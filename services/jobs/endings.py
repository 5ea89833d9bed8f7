"""How a job ends in the store."""

from typing import Any

from sqlalchemy import Connection, Row, update

from services.jobs.orders import read, without_texts, written
from services.jobs.records import JobStatus
from services.jobs.tables import DELIVERIES, JOBS


def end(connection: Connection, row: Row[Any], status: JobStatus, now: float, outcome: str | None = None) -> int:
    """End a job, and return what it takes then, in bytes; of its texts and its source nothing stays."""
    ordered = written(without_texts(read(row.ordered)))
    size = len(ordered) + len(outcome or "")
    changed = {"status": status, "ended": now, "outcome": outcome, "ordered": ordered, "source": None, "size": size}
    connection.execute(update(JOBS).where(JOBS.c.number == row.number).values(changed))
    connection.execute(update(DELIVERIES).where(DELIVERIES.c.job == row.number).values(due=now))
    return size
