"""A house of jobs in one process: the real store, runner and desk, and a graph that a test directs."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from benchmarks import postgresql as databases
from benchmarks.errors import BenchmarkError
from benchmarks.postgresql import Server
from services.files.pictures import Link
from services.jobs.database import open_database
from services.jobs.desk import JobDesk
from services.jobs.feeds import Feeds
from services.jobs.records import JobStatus, JobTerms, JobView, Submission, Webhook
from services.jobs.room import Room
from services.jobs.runner import Hands, Runner
from services.jobs.settings import JobsArgs
from services.jobs.store import JobStore
from services.jobs.work import Work
from services.messages import Drawn, Encoding, LiveModel, Order, PictureFormat, Progress, Terms
from tests.requests import image_request
from tests.services.ingress.conftest import watch_at_once

ANN, BEN = "ann", "ben"


@dataclass
class Clock:
    now: float = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class House:
    """A store, on disk or in a server, which is opened again as often as a test likes."""

    folder: Path
    live: LiveModel
    clock: Clock = field(default_factory=Clock)
    settings: JobsArgs = field(default_factory=JobsArgs)
    dropped: list[tuple[str, int]] = field(default_factory=list)
    engines: list[Engine] = field(default_factory=list)
    address: str = ""

    def __post_init__(self) -> None:
        self.address = self.address or f"sqlite:///{self.folder / 'jobs.sqlite3'}"

    def open(self) -> tuple[JobStore, Work]:
        """The store as its callers see it, and as a new runner does."""
        engine = open_database(self.address)
        self.engines.append(engine)
        room = Room(self.settings, lambda why, count: self.dropped.append((why, count)), self.clock)
        return JobStore(engine, self.settings, room, self.clock), Work(engine, self.settings, room, self.clock)

    def order(self, **changes: Any) -> Order:
        """What the ingress makes of a request."""
        terms = changes.pop("terms", Terms())
        contract = next(one for kind, one in self.live.contracts.items() if kind == "denoiser")
        return Order(image_request(**changes), self.live.pins, Encoding(), terms, id="a request", contract=contract)

    def submission(self, owner: str = ANN, **changes: Any) -> Submission:
        terms = JobTerms(bundle="toy", address="http://here", **changes.pop("terms", {}))
        own = {name: changes.pop(name) for name in ("key", "fingerprint", "webhook") if name in changes}
        order = changes["order"] if "order" in changes else self.order(**changes)
        return Submission(order=order, terms=terms, owner=owner, **own)

    def close(self) -> None:
        for engine in self.engines:
            engine.dispose()


@dataclass
class Running:
    """A runner at work, and what a test may ask of it."""

    store: JobStore
    desk: JobDesk
    runner: Runner
    orders: list[Order]
    ended: list[Drawn | Exception]
    over: list[JobStatus]

    async def comes_to(self, id_: str, status: JobStatus, owner: str = ANN) -> JobView:
        """The job once it has come to a status, which it will where the test is right."""
        while (job := await self.desk.show(id_, owner)).status != status:
            assert not job.has_ended, f"it is {job.status}: {job.failure}"
            await asyncio.sleep(0.005)
        return job

    async def tells_of(self, *ends: JobStatus) -> None:
        """Wait until these ends were told, in this order; the store knows of one a moment earlier."""
        while len(self.over) < len(ends):
            await asyncio.sleep(0.005)
        assert self.over == list(ends)


Watch = Callable[[Order, int], AsyncIterator[Progress | Drawn]]


@asynccontextmanager
async def running(
    house: House, watch: Watch = watch_at_once, keep: Callable[[bytes, PictureFormat], Awaitable[Link]] | None = None
) -> AsyncIterator[Running]:
    """A runner on the house's store, which is cut off after the block as a process that is killed."""
    store, work = house.open()
    feeds, orders = Feeds(), list[Order]()
    ended, over = list[Drawn | Exception](), list[JobStatus]()

    async def watched(order: Order, preview_every: int) -> AsyncIterator[Progress | Drawn]:
        orders.append(order)
        async for one in watch(order, preview_every):
            yield one

    async def no_link(*_: object) -> Link:
        raise AssertionError("no links were asked for")

    async def at_once(_seconds: float) -> None:
        await asyncio.sleep(0)

    hands = Hands(
        watched,
        no_link if keep is None else keep,
        lambda _order, _terms, end: ended.append(end),
        over.append,
        house.clock,
    )
    runner = Runner(work, feeds, hands, house.settings.at_once, at_once)
    desk = JobDesk(store, feeds, runner, lambda: work.epoch, over.append)
    task = asyncio.create_task(runner.run())
    try:
        yield Running(store, desk, runner, orders, ended, over)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Server]:
    try:
        databases.require()
    except BenchmarkError as missing:
        pytest.skip(str(missing))
    with databases.postgresql() as made:
        yield made


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def fresh_address(request: pytest.FixtureRequest) -> Callable[[], str]:
    """Addresses of a kind of database, each of one that has nothing in it; empty for a file in the house's folder."""
    if request.param == "sqlite":
        return str
    running: Server = request.getfixturevalue("postgresql")
    return running.fresh


@pytest.fixture
def house(tmp_path: Path, live: LiveModel) -> Iterator[House]:
    made = House(tmp_path, live)
    yield made
    made.close()


def with_settings(house: House, **settings: Any) -> House:
    house.settings = JobsArgs(**settings)
    return house


def hook(secret: str | None = None, url: str = "https://hooks.example/a") -> Webhook:
    return Webhook(url, secret)
