"""Jobs in an SQLite file, which no other user of the machine may read."""

import sqlite3
from pathlib import Path
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.engine import URL

from services.jobs.backend import Kind


def refusal(url: URL) -> str | None:
    """Why an address cannot be used, None where it can."""
    ours = url.drivername in ("sqlite", "sqlite+pysqlite") and url.database and not url.query
    return None if ours else "must be sqlite: and a file, such as sqlite:////var/lib/latentworks/jobs.sqlite3"


def options(url: URL, busy_s: float) -> dict[str, Any]:
    """What the engine is made with; the file is made where there is none.

    Raises:
        OSError: it cannot be made.
    """
    assert url.database, "it was looked at"
    file = Path(url.database)
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # SQLite gives the files beside it the same mode
    file.touch(mode=0o600)
    return {"connect_args": {"timeout": busy_s}}


def connected(connection: Any, _record: object) -> None:
    """Set up a new connection."""
    # the driver would begin transactions of its own, and only at the first change
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "secure_delete=ON"):
        connection.execute(f"PRAGMA {pragma}")


def begun(connection: Connection, kind: Kind) -> None:
    """Begin a transaction."""
    # one that reads waits for nobody, by the write-ahead log
    connection.exec_driver_sql("BEGIN" if kind == "reads" else "BEGIN IMMEDIATE")


def is_busy(error: BaseException | None) -> bool:
    """Whether others had the file for too long."""
    return getattr(error, "sqlite_errorcode", None) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
