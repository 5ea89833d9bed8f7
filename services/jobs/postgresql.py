"""Jobs in a database of a PostgreSQL server."""

from typing import Any

from sqlalchemy import Connection
from sqlalchemy.engine import URL

from services.jobs.backend import DatabaseRefusedError, Kind

# libpq's: a server that is not heard of for so long is away
_AWAY: dict[str, Any] = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}
# how long one statement may take, and how long the server lets a client that is gone have the store
_LONGEST_MS = 60_000
# the most threads that asyncio works with; one that waited for a connection would fail in words of the pool's
_MOST_CALLS = 32
# https://www.postgresql.org/docs/current/errcodes-appendix.html
_BUSY_CLASSES = ("08", "40", "57")
_BUSY_STATES = ("53300", "55P03")


def refusal(url: URL) -> str | None:
    """Why an address cannot be used, None where it can."""
    ours = url.drivername == "postgresql+psycopg" and url.database
    return None if ours else "must be such as postgresql+psycopg://USER:PASSWORD@HOST/DATABASE"


def options(url: URL, busy_s: float) -> dict[str, Any]:
    """What the engine is made with; what the address's query says goes before what is said here."""
    settings = {
        "lock_timeout": int(busy_s * 1000),
        "statement_timeout": _LONGEST_MS,
        "idle_in_transaction_session_timeout": _LONGEST_MS,
    }
    given = url.query.get("options", "")
    ours = " ".join(f"-c {name}={value}" for name, value in settings.items())
    away = {name: value for name, value in _AWAY.items() if name not in url.query}
    arguments = {**away, "client_encoding": "utf8", "options": f"{ours} {given}".strip()}
    # a connection that was lost meanwhile is made again, and no call fails for it
    return {
        "connect_args": arguments,
        "isolation_level": "READ COMMITTED",
        "pool_pre_ping": True,
        "pool_size": _MOST_CALLS,
    }


def connected(connection: Any, _record: object) -> None:
    """Set up nothing more: its arguments say all."""


def begun(connection: Connection, kind: Kind) -> None:
    """Begin a transaction.

    Raises:
        DatabaseRefusedError: the database cannot hold every text.
    """
    if kind == "reads":
        connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
    elif kind == "changes":
        # the one row stands for the whole store; whoever comes next sees all that was written before
        connection.exec_driver_sql("SELECT one FROM runner FOR UPDATE")
    else:
        encoding = connection.exec_driver_sql("SHOW server_encoding").scalar_one()
        if encoding != "UTF8":
            raise DatabaseRefusedError(f"is in {encoding}, must be in UTF8")
        # tables that two made at the same time would be there for neither
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(hashtext('latentworks jobs'))")


def is_busy(error: BaseException | None) -> bool:
    """Whether others had the store for too long, or the server is away."""
    # the driver's errors alone have it; without a value there was no server to say one
    state = getattr(error, "sqlstate", "")
    return state is None or state[:2] in _BUSY_CLASSES or state in _BUSY_STATES
