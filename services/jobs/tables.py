"""The tables of the store of jobs, and the one way to its database."""

import sqlite3
from pathlib import Path

from sqlalchemy import (
    Column,
    Connection,
    Engine,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    create_engine,
    event,
    insert,
    select,
)
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

from services.errors import StartError

# of the tables below; another one is another release's
_SCHEMA = 1
# how long a call waits for another one's transaction
_BUSY_S = 10
_READS = "latentworks_reads"

METADATA = MetaData()

JOBS = Table(
    "jobs",
    METADATA,
    Column("number", Integer, primary_key=True),
    Column("id", String(64), nullable=False, unique=True),
    # a digest, as of the latents' tenants
    Column("owner", String(64), nullable=False),
    Column("status", String(16), nullable=False),
    Column("turn", Integer, nullable=False),
    # before then it does not begin
    Column("due", Float, nullable=False),
    # of the runner that draws it
    Column("epoch", Integer),
    Column("begun", Integer, nullable=False),
    Column("pictures", Integer, nullable=False),
    Column("most_at_once", Integer),
    Column("created", Float, nullable=False),
    Column("started", Float),
    Column("ended", Float),
    Column("key", String(64)),
    Column("fingerprint", String(64), nullable=False),
    Column("ordered", Text, nullable=False),
    Column("source", LargeBinary),
    Column("terms", Text, nullable=False),
    # what is told of its pictures beside them, or of its failure
    Column("outcome", Text),
    Column("size", Integer, nullable=False),
    UniqueConstraint("owner", "key"),
    Index("jobs_by_turn", "status", "turn", "number"),
    Index("jobs_by_owner", "owner", "number"),
    Index("jobs_by_end", "ended"),
    sqlite_autoincrement=True,
)

PICTURES = Table(
    "pictures",
    METADATA,
    Column("job", ForeignKey(JOBS.c.number), primary_key=True),
    Column("picture", Integer, primary_key=True),
    Column("data", LargeBinary, nullable=False),
)

DELIVERIES = Table(
    "deliveries",
    METADATA,
    Column("job", ForeignKey(JOBS.c.number), primary_key=True),
    Column("url", Text, nullable=False),
    Column("secret", Text),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False),
    # None before its job has ended
    Column("due", Float),
    Column("status", Integer),
    Index("deliveries_by_due", "state", "due"),
)

GONE = Table(
    "gone",
    METADATA,
    Column("id", String(64), primary_key=True),
    Column("owner", String(64), nullable=False),
    Column("since", Float, nullable=False, index=True),
)

# one row: whose turn it is, and which runner has the store
RUNNER = Table(
    "runner",
    METADATA,
    Column("one", Integer, primary_key=True),
    Column("schema", Integer, nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("turn", Integer, nullable=False),
    Column("seen", Float, nullable=False),
)


def open_database(address: str) -> Engine:
    """Open the store's database, and make it where there is none; no other user of this machine may read it.

    Raises:
        StartError: it cannot be opened, or is that of another release.
    """
    url = _url(address)
    try:
        _make_file(url)
        engine = create_engine(url, connect_args={"timeout": _BUSY_S})
        event.listen(engine, "connect", _connected)
        event.listen(engine, "begin", _begun)
        METADATA.create_all(engine)
        with engine.begin() as connection:
            schema = connection.execute(select(RUNNER.c.schema)).scalar()
            if schema is None:
                connection.execute(insert(RUNNER).values(one=1, schema=_SCHEMA, epoch=0, turn=0, seen=0.0))
    except OSError as error:
        raise StartError(f"jobs.database={_shown(url)}: {error.strerror}") from None
    except DBAPIError as error:
        raise StartError(f"jobs.database={_shown(url)}: {error.orig}") from None
    if schema not in (None, _SCHEMA):
        raise StartError(f"jobs.database={_shown(url)}: has schema {schema}, must be {_SCHEMA}")
    return engine


def reading(engine: Engine) -> Engine:
    """The same database for transactions that only read, which wait for nobody (SQLite's write-ahead log)."""
    return engine.execution_options(**{_READS: True})


def is_busy(error: DBAPIError) -> bool:
    """Whether a transaction could not be begun or ended since others had the database for too long."""
    return getattr(error.orig, "sqlite_errorcode", None) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _url(address: str) -> URL:
    try:
        url = make_url(address)
    except ArgumentError:
        raise StartError("jobs.database: is no URL such as sqlite:////var/lib/latentworks/jobs.sqlite3") from None
    if url.get_backend_name() != "sqlite" or not url.database or url.query:
        raise StartError(f"jobs.database={_shown(url)}: must be sqlite: and a file, such as sqlite:////var/lib/jobs")
    return url


def _shown(url: URL) -> str:
    return url.render_as_string(hide_password=True)


def _make_file(url: URL) -> None:
    assert url.database, "it was looked at"
    file = Path(url.database)
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # SQLite gives the files beside it the same mode
    file.touch(mode=0o600)


def _connected(connection: object, _record: object) -> None:
    # the driver would begin transactions of its own, and only at the first change
    connection.isolation_level = None  # type: ignore[attr-defined]
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "secure_delete=ON"):
        connection.execute(f"PRAGMA {pragma}")  # type: ignore[attr-defined]


def _begun(connection: Connection) -> None:
    # where what is read decides what is written nobody else may write in between
    reads = connection.get_execution_options().get(_READS, False)
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")
