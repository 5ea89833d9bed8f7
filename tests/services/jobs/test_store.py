"""The store of jobs: who sees what, whose turn it is, what survives, and what makes room."""

import json
import sqlite3
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import event, select, update

from benchmarks.postgresql import connect
from components.contract import Kind
from components.messages import Overlay, Source
from services.errors import FileNotKeptError, StartError, UnavailableError
from services.files.pictures import Link
from services.jobs import database
from services.jobs.database import open_database
from services.jobs.errors import (
    IdempotencyConflictError,
    JobEndedError,
    JobExpiredError,
    JobNotFoundError,
    JobNotKeptError,
    JobsFullError,
    SupersededError,
)
from services.jobs.orders import without_texts
from services.jobs.records import JobFailure
from services.jobs.store import JobStore
from services.jobs.tables import JOBS, METADATA, RUNNER
from services.jobs.work import MOST_BEGUN, Work
from services.messages import Drawn, LiveModel, Picture, Terms
from tests.services.jobs.conftest import ANN, BEN, House, hook, with_settings

FAILURE = JobFailure(status=500, message="something went wrong", type="server_error", code="internal_error")


@pytest.fixture
def house(tmp_path: Path, live: LiveModel, fresh_address: Callable[[], str]) -> Iterator[House]:
    made = House(tmp_path, live, address=fresh_address())
    yield made
    made.close()


@pytest.fixture
def sqlite(tmp_path: Path, live: LiveModel) -> Iterator[House]:
    made = House(tmp_path, live)
    yield made
    made.close()


def content(house: House) -> bytes:
    """All that the database holds, as whoever has its disk, or may read all its tables, has it."""
    if house.address.startswith("sqlite"):
        house.close()
        with sqlite3.connect(house.folder / "jobs.sqlite3") as file:
            file.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        file.close()
        return b"".join(file.read_bytes() for file in house.folder.iterdir())
    with house.engines[-1].begin() as connection:
        rows = [row for table in METADATA.tables.values() for row in connection.execute(select(table))]
    return repr(rows).encode()


def drawn(*files: bytes) -> Drawn:
    pictures = tuple(Picture(data, seed, None) for seed, data in enumerate(files))
    return Drawn(pictures, prompt_truncated=True, negative_prompt_truncated=False, text_tokens=3)


def ids(work: Work) -> list[str]:
    """What would be drawn, in its order, by a runner that draws without end."""
    found = []
    while (job := work.claim()) is not None:
        found.append(job.id)
    return found


def submitted(store: JobStore, house: House, owner: str = ANN, count: int = 1, **changes: object) -> list[str]:
    return [store.submit(house.submission(owner, **changes))[0].id for _ in range(count)]


def test_a_job_outlives_its_process_with_all_that_draws_it(house: House) -> None:
    store, _ = house.open()
    order = house.order(
        prompt="a red apple \N{RED APPLE}", guidance=7.1, seed=2**63 - 1, terms=Terms("ann", "high", 60.5)
    )
    mask = np.arange(64).reshape(8, 8) % 2 == 0
    hidden = mask.repeat(8, axis=0).repeat(8, axis=1)
    depth = np.linspace(-1, 1, 64, dtype=np.float32).reshape(1, 1, 8, 8)
    overlay = Overlay(np.ones((90, 80, 3), np.uint8), np.full((90, 80), 3, np.uint8), (4, 5, 76, 85))
    source = Source(np.arange(64 * 64 * 3, dtype=np.uint8).reshape(1, 64, 64, 3), mask, hidden, depth, overlay)
    object.__setattr__(order, "source", source)
    object.__setattr__(order, "laid_size", overlay.size)
    [id_] = [store.submit(house.submission(order=order))[0].id]
    _, work = house.open()
    job = work.claim()
    assert job is not None
    assert (job.id, job.order.request, job.order.pins) == (id_, order.request, order.pins)
    assert (job.order.encoding, job.order.terms, job.order.id) == (order.encoding, order.terms, order.id)
    assert job.order.contract == house.live.contracts[Kind.DENOISER]
    assert job.order.source is not None
    np.testing.assert_array_equal(job.order.source.pixels, source.pixels)
    np.testing.assert_array_equal(job.order.source.mask, mask)
    np.testing.assert_array_equal(job.order.source.hidden, hidden)
    np.testing.assert_array_equal(job.order.source.depth, depth)
    assert job.order.source.overlay is not None
    assert (job.order.source.overlay.box, job.order.laid_size) == (overlay.box, (80, 90))
    np.testing.assert_array_equal(job.order.source.overlay.picture, overlay.picture)
    np.testing.assert_array_equal(job.order.source.overlay.mask, overlay.mask)
    # which is told of once the picture is gone too
    assert without_texts(job.order).size == (80, 90)


def test_pictures_are_what_was_drawn(house: House) -> None:
    store, work = house.open()
    [id_] = submitted(store, house, n=2)
    job = work.claim()
    assert job is not None
    house.clock.now += 5
    made = drawn(b"first", b"second")
    assert work.complete(job.number, made, ())
    store, _ = house.open()
    view = store.view(id_, ANN)
    assert (view.status, view.started, view.ended) == ("completed", 1_000_000.0, 1_000_005.0)
    assert view.expires == 1_000_005.0 + house.settings.keep_s
    assert view.drawn is not None
    assert [picture.data for picture in view.drawn.pictures] == [b"first", b"second"]
    assert (view.drawn.prompt_truncated, view.drawn.text_tokens) == (True, 3)


def test_links_stand_in_for_pictures(house: House) -> None:
    store, work = house.open()
    [id_] = submitted(store, house)
    job = work.claim()
    assert job is not None
    link = Link("a.png", 17, "signed")
    assert work.complete(job.number, drawn(b"x" * 10_000), (link,))
    view = store.view(id_, ANN)
    assert view.links == (link,)
    assert view.drawn is not None
    assert view.drawn.pictures[0].data == b""
    assert store.holds()[1] < 10_000


def test_only_its_owner_sees_a_job(house: House) -> None:
    store, _ = house.open()
    [id_] = submitted(store, house)
    for ask in (store.view, store.cancel):
        with pytest.raises(JobNotFoundError):
            ask(id_, BEN)
        with pytest.raises(JobNotFoundError):
            ask("job-nothing", ANN)
    assert store.view(id_, ANN).status == "queued"
    assert store.page(BEN, 10).jobs == ()
    with pytest.raises(JobNotFoundError):
        store.page(BEN, 10, after=id_)


def test_pages_hold_every_job_once_the_newest_first(house: House) -> None:
    store, work = house.open()
    mine = submitted(store, house, count=7)
    submitted(store, house, BEN, count=3)
    work.claim()
    seen: list[str] = []
    after = None
    while True:
        page = store.page(ANN, 3, after)
        seen += [job.id for job in page.jobs]
        if not page.has_more:
            break
        after = seen[-1]
    assert seen == mine[::-1]
    assert [job.id for job in store.page(ANN, 9, status="generating").jobs] == mine[:1]


def test_owners_take_turns_by_their_pictures(house: House) -> None:
    """Start-time fair queueing, worked out by hand: the flood of one does not keep out another."""
    store, work = house.open()
    a = submitted(store, house, ANN, 3) + submitted(store, house, ANN, 1, n=3)
    b = submitted(store, house, BEN, 2, n=2)
    assert [store.view(id_, ANN).position for id_ in a] == [1, 3, 4, 6]
    assert [store.view(id_, BEN).position for id_ in b] == [2, 5]
    assert ids(work) == [a[0], b[0], a[1], a[2], b[1], a[3]]


def test_who_comes_later_is_not_before_what_has_begun(house: House) -> None:
    store, work = house.open()
    a = submitted(store, house, ANN, 4)
    for _ in range(3):
        work.claim()
    b = submitted(store, house, BEN, 2)
    assert ids(work) == [b[0], a[3], b[1]]


def test_what_was_being_drawn_is_next_after_a_restart_in_its_order(house: House) -> None:
    store, work = house.open()
    mine = submitted(store, house, count=4)
    first, second = work.claim(), work.claim()
    assert first is not None
    assert second is not None
    store, again = house.open()
    assert [store.view(id_, ANN).position for id_ in mine] == [1, 2, 3, 4]
    with pytest.raises(SupersededError):
        work.claim()
    job = again.claim()
    assert job is not None
    assert job.begun == 2
    # whoever is late has no result, whatever it says
    assert not work.complete(first.number, drawn(b"late"), ())
    assert not work.fail(second.number, FAILURE)
    assert not work.put_back(first.number, 0.0, begun=True)
    assert again.complete(job.number, drawn(b"drawn again"), ())
    assert not work.complete(first.number, drawn(b"late"), ())
    view = store.view(mine[0], ANN)
    assert view.drawn is not None
    assert view.drawn.pictures[0].data == b"drawn again"
    assert ids(again) == mine[1:]


@pytest.mark.parametrize("status", ["queued", "generating", "completed"])
def test_what_another_release_wrote_holds_up_nobody(house: House, status: str) -> None:
    store, work = house.open()
    strange, _ = store.submit(house.submission())
    if status != "queued":
        claimed = work.claim()
        assert claimed is not None
        if status == "completed":
            work.complete(claimed.number, drawn(b"a file"), ())
    good, _ = store.submit(house.submission(owner=BEN))
    with house.engines[-1].begin() as connection:
        row = connection.execute(select(JOBS).where(JOBS.c.id == strange.id)).one()
        newer = json.dumps({**json.loads(row.ordered), "of_a_newer_release": 1})
        connection.execute(update(JOBS).where(JOBS.c.id == strange.id).values(ordered=newer))
    store, work = house.open()
    assert house.dropped == [("unreadable", 1)]
    claimed = work.claim()
    assert claimed is not None
    assert claimed.id == good.id
    assert [job.id for job in store.page(ANN, 10, None, None).jobs] == []
    with pytest.raises(JobExpiredError):
        store.view(strange.id, ANN)


def test_a_job_that_never_comes_to_an_end_is_given_up(house: House) -> None:
    store, work = house.open()
    bad, good = submitted(store, house, count=2)
    for _ in range(MOST_BEGUN):
        job = work.claim()
        assert job is not None
        assert job.id == bad
        store, work = house.open()
    failure = store.view(bad, ANN).failure
    assert failure is not None
    assert failure.code == "given_up"
    assert ids(work) == [good]


def test_what_waits_for_room_keeps_its_place_and_what_is_away_comes_later(house: House) -> None:
    store, work = house.open()
    mine = submitted(store, house, count=3)
    job = work.claim()
    assert job is not None
    assert work.put_back(job.number, 0.0, begun=False)
    job = work.claim()
    assert job is not None
    assert (job.id, job.begun) == (mine[0], 1)
    assert work.put_back(job.number, 30.0, begun=True)
    assert store.view(mine[0], ANN).started is None
    assert ids(work) == mine[1:]
    house.clock.now += 30
    job = work.claim()
    assert job is not None
    assert (job.id, job.begun) == (mine[0], 2)


def test_a_cancelled_job_has_no_result(house: House) -> None:
    store, work = house.open()
    waiting, begun = submitted(store, house, count=2)
    assert store.cancel(waiting, ANN)[1]
    job = work.claim()
    assert job is not None
    assert job.id == begun
    view, new = store.cancel(begun, ANN)
    assert (view.status, new) == ("cancelled", True)
    assert store.cancel(begun, ANN)[1] is False
    assert not work.complete(job.number, drawn(b"late"), ())
    assert (store.view(begun, ANN).status, work.claim()) == ("cancelled", None)


def test_what_has_ended_is_not_cancelled(house: House) -> None:
    store, work = house.open()
    done, failed = submitted(store, house, count=2)
    for id_ in (done, failed):
        job = work.claim()
        assert job is not None
        assert job.id == id_
        assert work.fail(job.number, FAILURE) if id_ == failed else work.complete(job.number, drawn(b"a"), ())
        with pytest.raises(JobEndedError):
            store.cancel(id_, ANN)
    assert store.view(failed, ANN).failure == FAILURE


def test_a_key_gives_its_job_and_no_other_request_has_it(house: House) -> None:
    store, work = house.open()
    first, new = store.submit(house.submission(key="k", fingerprint="1"))
    assert new
    again, new = store.submit(house.submission(key="k", fingerprint="1", seed=99))
    assert (again.id, new, again.order.request.seed) == (first.id, False, 5)
    with pytest.raises(IdempotencyConflictError):
        store.submit(house.submission(key="k", fingerprint="2"))
    with pytest.raises(IdempotencyConflictError):
        store.find(ANN, "k", "2")
    assert store.find(ANN, "other", "1") is None
    theirs, new = store.submit(house.submission(BEN, key="k", fingerprint="2"))
    assert new
    assert theirs.id != first.id
    job = work.claim()
    assert job is not None
    assert work.complete(job.number, drawn(b"a"), ())
    store, _ = house.open()
    known = store.find(ANN, "k", "1")
    assert known is not None
    assert (known.id, known.status) == (first.id, "completed")


def test_one_key_at_a_time_makes_one_job(house: House) -> None:
    store, _ = house.open()
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: store.submit(house.submission(key="k", fingerprint="1")), range(16)))
    assert len({job.id for job, _ in made}) == 1
    assert sum(new for _, new in made) == 1


def test_over_the_queue_comes_429(house: House) -> None:
    store, work = with_settings(house, most_queued=2).open()
    submitted(store, house, count=2)
    with pytest.raises(JobsFullError, match="2 jobs wait") as raised:
        store.submit(house.submission(BEN))
    assert raised.value.status == 429
    work.claim()
    submitted(store, house)


def test_those_that_ended_first_make_room_and_others_do_not(house: House) -> None:
    store, work = with_settings(house, most=3).open()
    mine = submitted(store, house, count=3)
    with pytest.raises(JobsFullError, match="no room"):
        store.submit(house.submission())
    second = store.cancel(mine[1], ANN)[0]
    assert second.status == "cancelled"
    house.clock.now += 1
    store.cancel(mine[0], ANN)
    submitted(store, house)
    with pytest.raises(JobExpiredError):
        store.view(mine[1], ANN)
    with pytest.raises(JobNotFoundError):
        store.view(mine[1], BEN)
    assert store.view(mine[0], ANN).status == "cancelled"
    assert house.dropped == [("full", 1)]
    assert ids(work)[0] == mine[2]


def test_bytes_are_bounded_by_pictures_of_before(house: House) -> None:
    store, work = with_settings(house, most_bytes=40_000).open()
    mine = submitted(store, house, count=4)
    kept = []
    for id_ in mine:
        job = work.claim()
        assert job is not None
        assert work.complete(job.number, drawn(bytes(10_000)), ())
        assert store.holds()[1] <= 40_000
        kept.append(id_)
        house.clock.now += 1
    assert store.view(mine[3], ANN).drawn is not None
    with pytest.raises(JobExpiredError):
        store.view(mine[0], ANN)
    [last] = submitted(store, house)
    job = work.claim()
    assert job is not None
    with pytest.raises(FileNotKeptError, match="jobs.most_bytes=40000"):
        work.complete(job.number, drawn(bytes(40_001)), ())
    # nothing was dropped for what has no room at all
    assert store.view(mine[3], ANN).status == "completed"
    assert store.view(last, ANN).status == "generating"


def test_jobs_expire_and_their_end_is_told_for_a_time(house: House) -> None:
    store, work = with_settings(house, keep_s=60).open()
    done, waiting = submitted(store, house, count=2)
    job = work.claim()
    assert job is not None
    assert work.complete(job.number, drawn(b"a"), ())
    house.clock.now += 59
    store.sweep()
    assert store.view(done, ANN).status == "completed"
    house.clock.now += 1
    store.sweep()
    for ask in (store.view, store.cancel):
        with pytest.raises(JobExpiredError) as raised:
            ask(done, ANN)
        assert raised.value.status == 410
        with pytest.raises(JobNotFoundError):
            ask(done, BEN)
    assert store.view(waiting, ANN).status == "queued"
    house.clock.now += 60
    store.sweep()
    with pytest.raises(JobNotFoundError):
        store.view(done, ANN)
    assert store.holds()[0] == {"queued": 1, "generating": 0, "completed": 0, "failed": 0, "cancelled": 0}


def test_a_keys_pictures_at_once_are_bounded_and_others_go_past(house: House) -> None:
    store, work = house.open()
    bound = {"most_at_once": 3}
    a = submitted(store, house, ANN, 3, n=2, terms=bound)
    b = submitted(store, house, BEN, 2, terms=bound)
    assert ids(work) == [a[0], *b]
    job = store.view(a[0], ANN)
    assert job.status == "generating"
    store.cancel(a[0], ANN)
    assert ids(work) == [a[1]]


def test_texts_and_sources_go_when_a_job_ends(house: House) -> None:
    store, work = house.open()
    canary = "canary-91b7"
    mine = submitted(store, house, count=3, prompt=canary, negative_prompt=canary)
    store.cancel(mine[2], ANN)
    for fails in (False, True):
        job = work.claim()
        assert job is not None
        assert job.order.request.prompt == canary
        assert work.fail(job.number, FAILURE) if fails else work.complete(job.number, drawn(b"a"), ())
    for id_ in mine:
        assert store.view(id_, ANN).order.request.prompt == ""
    found = content(house)
    assert mine[0].encode() in found
    assert canary.encode() not in found


def test_no_name_of_an_owner_or_key_is_on_the_disk(house: House) -> None:
    store, _ = house.open()
    job, _ = store.submit(house.submission("owner-41aa", key="key-52bb"))
    found = content(house)
    assert job.id.encode() in found
    assert b"owner-41aa" not in found
    assert b"key-52bb" not in found


def test_deliveries_are_due_once_the_job_has_ended_and_survive(house: House) -> None:
    store, work = house.open()
    done, cancelled, waiting = (submitted(store, house, webhook=hook("whsec_x"))[0] for _ in range(3))
    job = work.claim()
    assert job is not None
    assert work.due_deliveries(9) == []
    assert work.complete(job.number, drawn(b"a"), ())
    store.cancel(cancelled, ANN)
    _, work = house.open()
    due = work.due_deliveries(9)
    assert {one.job.id for one in due} == {done, cancelled}
    assert {one.webhook.secret for one in due} == {"whsec_x"}
    first = due[0].number
    work.told(first, 503, delivered=False, again_s=20.0)
    assert [one.number for one in work.due_deliveries(9)] == [due[1].number]
    house.clock.now += 20
    assert {one.attempt for one in work.due_deliveries(9) if one.number == first} == {2}
    work.told(first, 200, delivered=True, again_s=None)
    work.told(due[1].number, None, delivered=False, again_s=None)
    assert work.due_deliveries(9) == []
    told = [store.view(one.job.id, ANN).delivery for one in due]
    assert [(one.state, one.attempts, one.status) for one in told if one] == [
        ("delivered", 2, 200),
        ("given_up", 1, None),
    ]
    assert store.view(waiting, ANN).delivery is not None


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("no url", "is no URL"),
        ("mysql://me:secret@there/jobs", r"mysql://me:\*\*\*@there/jobs: must be such as sqlite:"),
        ("postgresql://me:secret@there/jobs", r"me:\*\*\*@there/jobs: must be such as postgresql\+psycopg:"),
        ("postgresql+pg8000://me:secret@there/jobs", r"me:\*\*\*@there/jobs: must be such as postgresql\+psycopg:"),
        ("postgresql+psycopg://me@there?password=secret", r"me@there: must be such as postgresql\+psycopg:"),
        ("postgresql://me:secret@127.0.0.1:port/jobs", "is no URL"),
        ("postgresql+psycopg://me:secret@127.0.0.1:1/jobs", r"me:\*\*\*@127.0.0.1:1/jobs: .*Connection refused$"),
        ("sqlite://", "must be sqlite: and a file"),
        ("sqlite:////tmp/a?mode=ro", "must be sqlite: and a file"),
        ("sqlite:////proc/jobs/jobs.sqlite3", "jobs.database="),
    ],
)
def test_another_database_is_refused_in_a_sentence(address: str, sentence: str) -> None:
    with pytest.raises(StartError, match=sentence) as raised:
        open_database(address)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    "id_", ["", "job-", "job-\0", "job-\ud800", f"job-{'x' * 21}\0", f"job-{'x' * 22}\n", "j" * 10_000]
)
def test_what_is_no_id_is_no_job(house: House, id_: str) -> None:
    store, _ = house.open()
    for ask in (store.view, store.cancel):
        with pytest.raises(JobNotFoundError):
            ask(id_, ANN)
    with pytest.raises(JobNotFoundError):
        store.page(ANN, 10, after=id_)


def test_texts_of_every_kind_come_back(house: House) -> None:
    store, _ = house.open()
    prompt = "\0 \x7f \N{RED APPLE} \u4e2d \\ ' \" %s :x"
    store.submit(house.submission(prompt=prompt))
    _, work = house.open()
    job = work.claim()
    assert job is not None
    assert job.order.request.prompt == prompt


def test_numbers_beyond_32_bits_are_kept(house: House) -> None:
    store, work = with_settings(house, most_bytes=2**40).open()
    [done, _] = submitted(store, house, count=2)
    job = work.claim()
    assert job is not None
    assert work.complete(job.number, drawn(b"a"), ())
    with house.engines[-1].begin() as connection:
        connection.execute(update(JOBS).values(size=2**39, turn=2**40))
        connection.execute(update(RUNNER).values(turn=2**40))
    assert store.holds()[1] == 2**40
    submitted(store, house)
    assert house.dropped == [("full", 1)]
    with pytest.raises(JobExpiredError):
        store.view(done, ANN)
    assert work.claim() is not None


def test_a_damaged_database_is_refused_in_a_sentence(tmp_path: Path) -> None:
    file = tmp_path / "jobs.sqlite3"
    file.write_bytes(b"no database" * 1000)
    with pytest.raises(StartError, match="file is not a database"):
        open_database(f"sqlite:///{file}")


def test_nobody_else_reads_the_database(sqlite: House) -> None:
    house = sqlite
    store, _ = house.open()
    submitted(store, house)
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in house.folder.iterdir()}
    assert modes["jobs.sqlite3"] == 0o600
    assert set(modes.values()) == {0o600}


@contextmanager
def another(house: House) -> Iterator[Any]:
    """A connection that has the store for itself, until it is told otherwise."""
    if house.address.startswith("sqlite"):
        other: Any = sqlite3.connect(house.folder / "jobs.sqlite3", isolation_level=None)
        begin = "BEGIN IMMEDIATE"
    else:
        other = connect(house.address)
        begin = "BEGIN; UPDATE runner SET seen = 1"
    with closing(other):
        other.execute(begin)
        yield other


def test_who_reads_waits_for_nobody_and_who_writes_is_told(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "_BUSY_S", 0.05)
    store, _ = house.open()
    submission = house.submission(key="a key", fingerprint="f")
    job, _ = store.submit(submission)
    with another(house) as other:
        assert store.view(job.id, ANN).id == job.id
        assert [one.id for one in store.page(ANN, 10).jobs] == [job.id]
        found = store.find(ANN, "a key", "f")
        assert found is not None
        assert found.id == job.id
        with pytest.raises(UnavailableError, match="does not answer just now"):
            store.submit(house.submission())
        with pytest.raises(UnavailableError, match="does not answer just now"):
            store.cancel(job.id, ANN)
        other.execute("ROLLBACK")
    assert store.cancel(job.id, ANN)[1]


def test_who_reads_sees_one_moment(house: House) -> None:
    store, work = with_settings(house, keep_s=60).open()
    job, _ = store.submit(house.submission())
    claimed = work.claim()
    assert claimed is not None
    assert work.complete(claimed.number, drawn(b"a picture"), ())
    house.clock.now += 60
    looked = list[str]()

    def dropped_meanwhile(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if "FROM pictures" in statement and not looked:
            looked.append(statement)
            store.sweep()

    event.listen(house.engines[-1], "before_cursor_execute", dropped_meanwhile)
    view = store.view(job.id, ANN)
    assert looked
    assert view.drawn is not None
    assert [picture.data for picture in view.drawn.pictures] == [b"a picture"]
    with pytest.raises(JobExpiredError):
        store.view(job.id, ANN)


def test_a_disk_that_takes_nothing_is_told_and_read_all_the_same(sqlite: House) -> None:
    house = sqlite
    store, _ = house.open()
    job, _ = store.submit(house.submission())
    with house.engines[-1].begin() as connection:
        most = connection.exec_driver_sql("PRAGMA page_count").scalar_one()

    def full(connection: object, _record: object) -> None:
        connection.execute(f"PRAGMA max_page_count={most}")  # type: ignore[attr-defined]

    event.listen(house.engines[-1], "connect", full)
    house.engines[-1].dispose()
    with pytest.raises(JobNotKeptError, match="takes no changes just now"):
        submitted(store, house, count=100)
    assert store.view(job.id, ANN).id == job.id
