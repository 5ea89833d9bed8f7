"""The one way to the database of jobs, an SQLite file or one of a PostgreSQL server."""

from sqlalchemy import Engine, create_engine, event, insert, select
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

from services.errors import StartError
from services.jobs import postgresql, sqlite
from services.jobs.backend import Backend, DatabaseRefusedError
from services.jobs.tables import METADATA, RUNNER, SCHEMA

# how long a call waits for another one's transaction
_BUSY_S = 10.0
_KIND = "latentworks_transaction"
_BACKENDS: dict[str, Backend] = {"sqlite": sqlite, "postgresql": postgresql}
_EXAMPLES = "sqlite:////var/lib/latentworks/jobs.sqlite3 or postgresql+psycopg://USER:PASSWORD@HOST/DATABASE"


def open_database(address: str) -> Engine:
    """Open the store's database, and make its tables where there are none.

    Raises:
        StartError: it cannot be opened, or is that of another release.
    """
    url = _url(address)
    backend = _BACKENDS[url.get_backend_name()]
    try:
        engine = create_engine(url, **backend.options(url, _BUSY_S))
        event.listen(engine, "connect", backend.connected)
        event.listen(engine, "begin", lambda one: backend.begun(one, one.get_execution_options().get(_KIND, "changes")))
        try:
            _make_tables(engine)
        except BaseException:
            engine.dispose()
            raise
    except DatabaseRefusedError as error:
        why = str(error)
    except ImportError:
        why = "needs psycopg, of the extra postgresql: pip install '.[postgresql]'"
    except OSError as error:
        why = str(error.strerror)
    except DBAPIError as error:
        # a server's has further lines of advice
        why = str(error.orig).partition("\n")[0]
    else:
        return engine
    raise StartError(f"jobs.database={_shown(url)}: {why}")


def reading(engine: Engine) -> Engine:
    """The same database for transactions that only read: they see one moment of it, and wait for nobody."""
    return engine.execution_options(**{_KIND: "reads"})


def is_busy(error: DBAPIError) -> bool:
    """Whether the database could not be had: others had it for too long, or it is away."""
    return any(backend.is_busy(error.orig) for backend in _BACKENDS.values())


def _make_tables(engine: Engine) -> None:
    with engine.execution_options(**{_KIND: "makes"}).begin() as connection:
        METADATA.create_all(connection)
        schema = connection.execute(select(RUNNER.c.schema)).scalar()
        if schema is None:
            connection.execute(insert(RUNNER).values(one=1, schema=SCHEMA, epoch=0, turn=0, seen=0.0))
        elif schema != SCHEMA:
            raise DatabaseRefusedError(f"has schema {schema}, must be {SCHEMA}")


def _url(address: str) -> URL:
    try:
        url = make_url(address)
        backend = url.get_backend_name()
    except (ArgumentError, ValueError):
        raise StartError(f"jobs.database: is no URL such as {_EXAMPLES}") from None
    if backend not in _BACKENDS:
        raise StartError(f"jobs.database={_shown(url)}: must be such as {_EXAMPLES}")
    if (why := _BACKENDS[backend].refusal(url)) is not None:
        raise StartError(f"jobs.database={_shown(url)}: {why}")
    return url


def _shown(url: URL) -> str:
    # a query may hold a password too
    return url.set(query={}).render_as_string(hide_password=True)
