"""Requests that are held for a stage without replicas: how many, how long, and who is told what."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, cast

import pytest
from ray.exceptions import ActorDiedError
from ray.serve.exceptions import DeploymentUnavailableError

from components.contract import PARTS, Kind
from services.deadlines import Deadline
from services.errors import DeadlineExceededError, HeldTooManyError, UnavailableError
from services.metrics.graph import GraphMetrics
from services.standing import Standing
from services.waking import Waking

AWAY, RUNS = Standing(0, True, rests=True), Standing(1, True)
ONE = (Kind.VAE_ENCODER,)


class Stage:
    """A stage's handle: calls wait until a replica starts, and then the first few of them fail as they are told to."""

    def __init__(self, failures: Sequence[Exception] = ()) -> None:
        self.started = asyncio.Event()
        self.waiting = self.calls = 0
        self._failures = list(failures)
        self.knock = self

    def fail(self, error: Exception) -> None:
        self._failures.append(error)

    async def remote(self) -> None:
        self.calls += 1
        self.waiting += 1
        try:
            await self.started.wait()
        finally:
            self.waiting -= 1
        if self._failures:
            raise self._failures.pop(0)


class Told(GraphMetrics):
    def __init__(self) -> None:
        super().__init__()
        self.held_now: dict[str, int] = {}
        self.starts: list[tuple[str, float]] = []

    def held(self, stage: str, requests: int) -> None:
        self.held_now[stage] = requests

    def started(self, stage: str, seconds: float) -> None:
        self.starts.append((stage, seconds))


class House:
    """A graph's stages of which those named have no replica."""

    def __init__(self, *missing: Kind, most: int = 2, failures: Sequence[Exception] = ()) -> None:
        self.stages = {kind: Stage(failures) for kind in PARTS}
        self.told = Told()
        self.found: Mapping[str, Standing] | None = {kind: AWAY if kind in missing else RUNS for kind in PARTS}
        self.waking = Waking(cast(Any, self.stages), self.standings, most, self.told)

    async def standings(self) -> Mapping[str, Standing]:
        if self.found is None:
            raise UnavailableError("Serve's controller does not answer")
        return self.found

    def ask(self, *kinds: Kind, deadline: Deadline | None = None) -> "asyncio.Task[bool]":
        chosen = kinds or ONE
        return asyncio.create_task(self.waking.awake(chosen, Deadline() if deadline is None else deadline))

    def start(self, *kinds: Kind) -> None:
        for kind in kinds or ONE:
            self.stages[kind].started.set()


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def test_who_needs_only_what_runs_waits_for_nothing() -> None:
    async def run() -> None:
        house = House(Kind.VAE_ENCODER)
        assert not await house.waking.awake((Kind.TEXT_ENCODER, Kind.DENOISER), Deadline())
        assert [stage.calls for stage in house.stages.values()] == [0] * len(PARTS)

    asyncio.run(run())


def test_all_wait_for_one_call_and_go_on_together() -> None:
    async def run() -> None:
        house = House(Kind.VAE_ENCODER)
        both = [house.ask(), house.ask()]
        await settled()
        assert house.stages[Kind.VAE_ENCODER].calls == 1
        assert house.told.held_now == {Kind.VAE_ENCODER: 2}
        house.start()
        assert await asyncio.gather(*both) == [True, True]
        assert house.told.held_now == {Kind.VAE_ENCODER: 0}
        [(stage, seconds)] = house.told.starts
        assert (stage, seconds >= 0) == (Kind.VAE_ENCODER, True)

    asyncio.run(run())


def test_an_account_from_before_a_start_begins_no_other() -> None:
    async def run() -> None:
        house = House(Kind.VAE_ENCODER)
        asked = house.ask()
        await settled()
        house.start()
        await asked
        # the controller's account may be some seconds old
        assert house.found is not None
        assert not house.found[Kind.VAE_ENCODER].running
        assert not any(await asyncio.gather(house.ask(), house.ask()))
        assert house.stages[Kind.VAE_ENCODER].calls == len(house.told.starts) == 1

    asyncio.run(run())


def test_a_stage_that_cannot_start_is_told_at_once_whatever_else_starts() -> None:
    async def run() -> None:
        house = House(Kind.DENOISER, Kind.VAE_DECODER)
        house.stages[Kind.VAE_DECODER].fail(DeploymentUnavailableError(cast(Any, "a stage")))
        asked = house.ask(*PARTS)
        house.start(Kind.VAE_DECODER)
        with pytest.raises(DeploymentUnavailableError):
            await asked
        await settled()
        assert house.stages[Kind.DENOISER].waiting == 0

    asyncio.run(run())


def test_stages_start_side_by_side_and_all_are_waited_for() -> None:
    async def run() -> None:
        house = House(Kind.DENOISER, Kind.VAE_DECODER)
        asked = house.ask(*PARTS)
        await settled()
        assert [house.stages[kind].waiting for kind in (Kind.DENOISER, Kind.VAE_DECODER)] == [1, 1]
        house.start(Kind.DENOISER)
        await settled()
        assert not asked.done()
        house.start(Kind.VAE_DECODER)
        await asked

    asyncio.run(run())


def test_one_more_than_may_be_held_is_refused_and_room_is_made_by_whoever_leaves() -> None:
    async def run() -> None:
        house = House(Kind.VAE_ENCODER, Kind.DENOISER, most=2)
        first, second = house.ask(), house.ask()
        await settled()
        with pytest.raises(
            HeldTooManyError, match="no replica of the vae_encoder runs, and 2 requests wait"
        ) as refused:
            await house.ask(Kind.DENOISER, Kind.VAE_ENCODER)
        assert refused.value.retry_after_s is None, "nobody knows how long a start takes"
        assert house.stages[Kind.DENOISER].calls == 0, "nothing is begun for who is refused"
        first.cancel()
        await settled()
        third = house.ask()
        await settled()
        house.start()
        await asyncio.gather(second, third)

    asyncio.run(run())


def test_who_is_refused_is_told_how_long_the_last_start_took(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("services.waking.time.monotonic", lambda: now)

    async def run() -> None:
        nonlocal now
        house = House(Kind.VAE_ENCODER, most=1)
        asked = house.ask()
        await settled()
        now += 90
        house.start()
        await asked
        # it has come to rest again
        now += 3600
        house.stages[Kind.VAE_ENCODER].started.clear()
        waits = house.ask()
        for passed, told in ((0.0, 90), (29.5, 61), (60.0, 1), (10.0, None)):
            await settled()
            now += passed
            with pytest.raises(HeldTooManyError) as refused:
                await house.ask()
            assert refused.value.retry_after_s == told
        waits.cancel()

    asyncio.run(run())


def test_a_deadline_ends_the_waiting_of_its_own_request_alone() -> None:
    async def run() -> None:
        house = House(Kind.VAE_ENCODER)
        patient, hasty = house.ask(), house.ask(deadline=Deadline(0.05))
        with pytest.raises(DeadlineExceededError, match="deadline_s=0.05: has passed before a replica had started"):
            await hasty
        assert house.told.held_now == {Kind.VAE_ENCODER: 1}
        house.start()
        await patient

    asyncio.run(run())


@pytest.mark.parametrize("later", range(6))
def test_the_last_that_leaves_takes_its_call_along_and_the_next_begins_anew(later: int) -> None:
    async def run() -> None:
        house = House(Kind.VAE_ENCODER)
        stage = house.stages[Kind.VAE_ENCODER]
        first, second = house.ask(), house.ask()
        await settled()
        first.cancel()
        await settled()
        assert stage.waiting == 1
        second.cancel()
        # in whatever moment in which the call is given up
        for _ in range(later):
            await asyncio.sleep(0)
        third = house.ask()
        await settled()
        assert (stage.waiting, third.done()) == (1, False)
        third.cancel()
        await settled()
        assert (stage.waiting, house.told.held_now) == (0, {Kind.VAE_ENCODER: 0})

    asyncio.run(run())


def test_serve_is_called_again_and_again_while_it_does_not_start_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.waking._KNOCK_AGAIN_S", 0.01)

    async def run() -> None:
        house = House(Kind.VAE_ENCODER)
        stage, asked = house.stages[Kind.VAE_ENCODER], house.ask()
        while stage.calls < 5:
            await asyncio.sleep(0.01)
        assert stage.waiting <= 2, "the first, and one beside it"
        house.start()
        await asked
        await settled()
        assert stage.waiting == 0

    asyncio.run(run())


def test_a_replica_that_stops_before_it_answers_is_not_the_end() -> None:
    async def run() -> None:
        house = House(Kind.VAE_ENCODER, failures=[ActorDiedError()])
        asked = house.ask()
        house.start()
        await asked
        assert house.stages[Kind.VAE_ENCODER].calls == 2

    asyncio.run(run())


def test_where_none_can_start_all_are_told_and_the_next_tries_again() -> None:
    async def run() -> None:
        house = House(Kind.VAE_ENCODER, failures=[DeploymentUnavailableError(cast(Any, "a stage"))])
        both = [house.ask(), house.ask()]
        await settled()
        house.start()
        ends = await asyncio.gather(*both, return_exceptions=True)
        assert [type(end) for end in ends] == [DeploymentUnavailableError] * 2
        await house.ask()

    asyncio.run(run())


def test_without_serves_controller_requests_go_on() -> None:
    async def run() -> None:
        house = House(Kind.VAE_ENCODER)
        house.found = None
        await house.ask()
        assert house.stages[Kind.VAE_ENCODER].calls == 0

    asyncio.run(run())
