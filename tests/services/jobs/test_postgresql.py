"""Jobs in a PostgreSQL server: what is refused at the start, and what a server that goes away does to calls."""

import asyncio
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, select
from sqlalchemy.engine import make_url

from benchmarks.postgresql import PASSWORD, Server, connect
from services.errors import StartError, UnavailableError
from services.jobs.database import open_database
from services.jobs.errors import JobNotKeptError
from services.jobs.tables import RUNNER
from services.messages import LiveModel
from tests.services.jobs.conftest import ANN, House, running

pytestmark = pytest.mark.slow


@pytest.fixture
def house(tmp_path: Path, live: LiveModel, postgresql: Server) -> Iterator[House]:
    made = House(tmp_path, live, address=postgresql.fresh())
    yield made
    made.close()


def test_a_call_after_lost_connections_has_new_ones(house: House) -> None:
    store, work = house.open()
    job, _ = store.submit(house.submission())
    ours = "usename = current_user AND pid <> pg_backend_pid()"
    for ask in (lambda: store.view(job.id, ANN), work.claim, lambda: store.cancel(job.id, ANN)):
        with connect(house.address) as other:
            ended = other.execute(f"SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE {ours}")
            assert ended.fetchall()
        assert ask()
    assert store.view(job.id, ANN).status == "cancelled"


def test_a_server_that_is_away_is_told_and_its_jobs_go_on_once_it_is_back(house: House, postgresql: Server) -> None:
    async def scenario() -> None:
        async with running(house) as here:
            first, _ = here.store.submit(house.submission())
            await here.comes_to(first.id, "completed")
            postgresql.stop()
            try:
                with pytest.raises(UnavailableError, match="does not answer just now"):
                    here.store.view(first.id, ANN)
                with pytest.raises(UnavailableError, match="does not answer just now"):
                    here.store.submit(house.submission())
            finally:
                postgresql.start()
            second, _ = here.store.submit(house.submission())
            await here.comes_to(second.id, "completed")
            assert here.store.view(first.id, ANN).status == "completed"

    asyncio.run(scenario())


def test_a_server_that_takes_no_changes_is_told_and_read_all_the_same(house: House) -> None:
    store, _ = house.open()
    job, _ = store.submit(house.submission())

    def standby(connection: Any, _record: object) -> None:
        connection.execute("SET default_transaction_read_only = on")
        connection.commit()

    event.listen(house.engines[-1], "connect", standby)
    house.engines[-1].dispose()
    with pytest.raises(JobNotKeptError, match="takes no changes just now"):
        store.submit(house.submission())
    assert store.view(job.id, ANN).id == job.id


def test_many_may_open_it_at_a_time(house: House) -> None:
    with ThreadPoolExecutor(8) as threads:
        engines = list(threads.map(lambda _: open_database(house.address), range(8)))
    for engine in engines:
        with engine.begin() as connection:
            assert len(connection.execute(select(RUNNER)).all()) == 1
        engine.dispose()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"password": "a wrong secret"}, "password authentication failed"),
        ({"database": "no_such"}, 'database "no_such" does not exist'),
        ({"port": 1}, "Connection refused$"),
    ],
)
def test_a_database_that_cannot_be_had_ends_the_start(
    postgresql: Server, changes: dict[str, Any], sentence: str
) -> None:
    address = make_url(postgresql.address).set(**changes).render_as_string(hide_password=False)
    with pytest.raises(
        StartError, match=rf"^jobs.database=postgresql\+psycopg://latentworks:\*\*\*@.*: .*{sentence}"
    ) as raised:
        open_database(address)
    assert "\n" not in str(raised.value)
    assert PASSWORD not in str(raised.value)
    assert "wrong secret" not in str(raised.value)


def test_a_database_that_cannot_hold_every_text_ends_the_start(postgresql: Server) -> None:
    postgresql.run("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0")
    with pytest.raises(StartError, match=r"/latin: is in LATIN1, must be in UTF8"):
        open_database(postgresql.address.replace("/postgres", "/latin"))


def test_another_releases_tables_end_the_start(house: House) -> None:
    house.open()
    with connect(house.address) as other:
        other.execute("UPDATE runner SET schema = 99")
    with pytest.raises(StartError, match="has schema 99, must be 1"):
        open_database(house.address)


def test_without_its_driver_one_sentence_says_so(monkeypatch: pytest.MonkeyPatch, postgresql: Server) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(StartError, match=r"needs psycopg, of the extra postgresql: pip install '\.\[postgresql\]'"):
        open_database(postgresql.address)
