"""The tables of the store of jobs."""

from sqlalchemy import (
    BigInteger,
    Column,
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
)

# of the tables below; another one is another release's
SCHEMA = 1
# SQLite numbers the rows of a plain INTEGER only, which is as long there
_Long = BigInteger().with_variant(Integer, "sqlite")

METADATA = MetaData()

JOBS = Table(
    "jobs",
    METADATA,
    Column("number", _Long, primary_key=True),
    Column("id", String(64), nullable=False, unique=True),
    # a digest, as of the latents' tenants
    Column("owner", String(64), nullable=False),
    Column("status", String(16), nullable=False),
    Column("turn", _Long, nullable=False),
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
    Column("size", _Long, nullable=False),
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
    Column("turn", _Long, nullable=False),
    Column("seen", Float, nullable=False),
)
