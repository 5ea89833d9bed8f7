"""One plan after the other: what becomes of each, who hears of it when, and what gives way to what."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from components.contract import PARTS, Kind
from components.reference import ComponentRef
from registry.errors import RegistryAwayError, RegistryError
from registry.registry import Registry
from registry.rollout.state import Plan, Rollout, read
from registry.settings import RegistrySettings
from services.messages import LiveModel
from services.rollout.alias_watch import AliasWatch
from services.rollout.desk import Desk
from services.rollout.follower import Follower
from services.rollout.last_good import LastGood
from services.rollout.ledger import Ledger
from services.rollout.live_rollout import LiveRollout, Step
from services.rollout.outage import Outage
from services.rollout.publication import Publication
from services.rollout.replicas import Replicas
from tests.services.conftest import CONTRACTS
from tests.services.rollout.conftest import CountedMetrics, FakeGate, FakeStages, ref_of

FIRST, SECOND = "1" * 32, "2" * 32


@dataclass
class Told:
    """Everybody who is told, in the order in which they are: of which plan, and what became of it."""

    heard: list[tuple[str, str | None, str]] = field(default_factory=list)
    disk: threading.Event = field(default_factory=threading.Event)
    production: list[ComponentRef] = field(default_factory=list)

    def keep(self, last_good: LastGood) -> None:
        self.disk.wait()
        self.heard.append(("disk", last_good.rollout.plan, last_good.rollout.state))

    def set_bundle_tag(self, _bundle: str, _tag: str, text: str) -> None:
        found = read(Rollout, text)
        assert found is not None
        self.heard.append(("registry", found.plan, found.state))

    @contextmanager
    def writing(self, _wait_s: float) -> Iterator[None]:
        yield

    def promote_together(self, refs: tuple[ComponentRef, ...]) -> None:
        self.production += refs


class NotedDesk(Desk):
    """Whoever asks the registry writes into what is told; nobody answers while `away`."""

    told: Any
    away = False

    def _answer(self, question: Callable[[Registry], Any]) -> Any:
        if self.away:
            raise RegistryAwayError("the registry in a test does not answer")
        return question(self.told)


@dataclass
class Admission:
    """Takes note of each plan and of what was live before it; holds it up while not `open`."""

    raises: Exception | None = None
    asked: list[tuple[str, Rollout]] = field(default_factory=list)
    open: asyncio.Event = field(default_factory=asyncio.Event)

    async def admit(self, plan: Plan, before: Rollout) -> list[ComponentRef]:
        self.asked.append((plan.id, before))
        await self.open.wait()
        if self.raises is not None:
            raise self.raises
        return [ref for ref in plan.components if ref not in before.components]


class Course:
    """A follower and all that it works with."""

    def __init__(self, live: LiveModel, home: Path) -> None:
        self.first = Rollout(components=tuple(live.pins.values()), state="live", plan="0" * 32)
        self.told, self.admission, self.stages, self.metrics = Told(), Admission(), FakeStages(), CountedMetrics()
        self.told.disk.set()
        self.admission.open.set()
        new = [ref_of(live, Kind.VAE_DECODER, version) for version in (2, 3)]
        contracts = {pin: CONTRACTS[kind] for kind, pin in live.pins.items()}
        self.desk = NotedDesk(RegistrySettings(home=home), contracts | dict.fromkeys(new, CONTRACTS[Kind.VAE_DECODER]))
        self.desk.told = self.told
        pointed = {pin.name: {"production": pin} for pin in (*self.first.components[:2], new[0])}
        self.aliases = AliasWatch("toy", self.desk, pointed)
        self.outage = Outage(self.metrics, None)
        self.live = LiveRollout(self.first, ())
        self.publication = Publication(
            "toy", self.live, self.desk, FakeGate(), self.aliases, self.outage, self.told.keep
        )
        replicas = Replicas(self.stages, 600, lambda: {kind: [*live.pins.values(), *new] for kind in PARTS})
        ledger = Ledger("toy", self.desk, self.aliases)
        self.follower = Follower(
            self.live, self.publication, ledger, self.aliases, self.admission.admit, replicas, self.metrics
        )
        others = self.first.components[:2] + self.first.components[3:]
        self.steps = [
            Step(Plan(id=name, components=(*others, ref)), name) for name, ref in zip((FIRST, SECOND), new, strict=True)
        ]

    async def idle(self) -> None:
        while (task := self.follower._following) is not None:
            await asyncio.wait([task])

    async def admitting(self, plans: int) -> None:
        """Wait until so many plans have been taken up."""
        while len(self.admission.asked) < plans:
            await asyncio.sleep(0.01)


@pytest.fixture
def course(live: LiveModel, tmp_path: Path) -> Iterator[Course]:
    made = Course(live, tmp_path)
    yield made
    made.told.disk.set()
    made.desk.close()


def test_disk_and_registry_hear_of_a_plan_before_the_next_begins(course: Course) -> None:
    async def run() -> None:
        first, second = course.steps
        course.told.disk.clear()
        stamp = course.publication.news.record.stamp
        await course.follower.follow(first)
        assert course.follower.busy
        news = await course.publication.news.later(stamp, 600)
        meanwhile = (course.follower.preparing, course.follower.busy)
        next_one = asyncio.create_task(course.follower.follow(second))
        for _ in range(20):
            await asyncio.sleep(0)
        waits = not next_one.done()
        course.told.disk.set()
        await next_one
        await course.idle()
        assert waits
        assert meanwhile == (None, True), "the disk is slow"
        assert news is not None
        assert news.live.pins[Kind.VAE_DECODER] == first.plan.components[-1]
        assert course.told.heard == [
            ("registry", FIRST, "preparing"),
            ("disk", FIRST, "live"),
            ("registry", FIRST, "live"),
            ("registry", SECOND, "preparing"),
            ("disk", SECOND, "live"),
            ("registry", SECOND, "live"),
        ]
        assert course.told.production == [step.plan.components[-1] for step in course.steps]
        assert course.metrics.outcomes == ["live", "live"]

    asyncio.run(run())


def test_one_in_preparation_gives_way_to_a_newer(course: Course) -> None:
    async def run() -> None:
        course.admission.open.clear()
        await course.follower.follow(course.steps[0])
        await course.admitting(1)
        assert course.follower.preparing == course.steps[0].plan
        await course.follower.follow(course.steps[1])
        await course.admitting(2)
        assert course.follower.preparing == course.steps[1].plan
        course.admission.open.set()
        await course.idle()
        assert course.admission.asked == [(FIRST, course.first), (SECOND, course.first)], "as if the other never was"
        assert (course.live.rollout.plan, course.live.rollout.previous) == (SECOND, course.first.components)
        assert course.metrics.outcomes == ["live"]
        assert [course.follower.preparing, course.follower.busy] == [None, False]

    asyncio.run(run())


@pytest.mark.parametrize("begun", [False, True])
def test_an_end_of_all_leaves_what_was_live(course: Course, begun: bool) -> None:
    async def run() -> None:
        course.admission.open.clear()
        await course.follower.follow(course.steps[0])
        if begun:
            await course.admitting(1)
            assert course.live.rollout.state == "preparing"
        course.follower.close()
        await course.idle()
        assert course.live.rollout == course.first
        assert (course.follower.preparing, course.follower.busy, course.metrics.outcomes) == (None, False, [])

    asyncio.run(run())


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RegistryError("toy.vae_decoder/2: black pictures"), "toy.vae_decoder/2: black pictures"),
        (OSError(28, "No space left on device", "/secret/path"), "something went wrong: OSError"),
    ],
)
def test_one_that_may_not_go_live_is_stopped_and_its_alias_set_back(
    course: Course, error: Exception, said: str
) -> None:
    async def run() -> None:
        course.admission.raises = error
        await course.follower.follow(course.steps[0])
        await course.idle()
        found = course.live.rollout
        assert (found.state, found.plan, found.reason) == ("stopped", FIRST, said)
        assert course.told.heard[-2:] == [("disk", FIRST, "stopped"), ("registry", FIRST, "stopped")]
        assert course.told.production == [course.first.ref("toy.vae_decoder")]
        assert course.aliases.refused == {("toy.vae_decoder", 2): said}
        assert course.metrics.outcomes == ["stopped"]

    asyncio.run(run())


@pytest.mark.parametrize("between", [False, True])
def test_without_the_registry_it_is_taken_up_again_so_many_times(course: Course, between: bool) -> None:
    async def follow(step: Step) -> None:
        await course.follower.follow(step)
        await course.idle()

    async def run() -> None:
        course.admission.raises = RegistryAwayError("the store does not answer")
        for _ in range(4):
            await follow(course.steps[0])
            assert course.live.rollout == course.first, "so that it is new once more"
            assert course.outage.reason == "the store does not answer"
            assert course.publication.news.record.away_since is not None
        if between:
            await follow(course.steps[1])
        await follow(course.steps[0])
        assert course.live.rollout.state == ("live" if between else "stopped"), "another plan begins the count anew"
        assert course.metrics.outcomes == ([] if between else ["stopped"])

    asyncio.run(run())


def test_a_registry_that_goes_away_before_it_is_told_takes_nothing_back(course: Course) -> None:
    async def run() -> None:
        course.admission.open.clear()
        await course.follower.follow(course.steps[0])
        await course.admitting(1)
        course.desk.away = True
        course.admission.open.set()
        await course.idle()
        record = course.publication.news.record
        assert (course.live.rollout.plan, course.live.rollout.state) == (FIRST, "live")
        assert record.live.pins[Kind.VAE_DECODER] == course.steps[0].plan.components[-1]
        assert record.away_since is not None
        assert course.told.heard == [("registry", FIRST, "preparing"), ("disk", FIRST, "live")]

    asyncio.run(run())
