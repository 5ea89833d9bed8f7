"""Jobs drawn, followed, cancelled and begun again, on a graph that a test directs."""

import asyncio
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from ray.exceptions import RayActorError

from services.errors import FieldError, HeldTooManyError, OverloadedError, UnavailableError
from services.files.pictures import Link
from services.jobs.desk import END
from services.jobs.errors import JobNotFoundError
from services.jobs.records import ClaimedJob, JobNews, JobView
from services.jobs.work import AWAY_S, MOST_BEGUN, Work
from services.messages import Drawn, Order, PictureFormat, Progress, Terms
from tests.services.ingress.conftest import draw_at_once, watch_at_once
from tests.services.jobs.conftest import ANN, BEN, House, Running, running, with_settings


@dataclass
class Graph:
    """Draws step by step, as far as a test lets it; `stopped` counts the walks that were cut off."""

    steps: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))
    under_way: int = 0
    most: int = 0
    stopped: int = 0

    async def watch(self, order: Order, preview_every: int) -> AsyncIterator[Progress | Drawn]:
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            async for news in watch_at_once(order, preview_every):
                await self.steps.acquire()
                yield news
        except (asyncio.CancelledError, GeneratorExit):
            self.stopped += 1
            raise
        finally:
            self.under_way -= 1

    def let(self, steps: int) -> None:
        for _ in range(steps):
            self.steps.release()


def failing(*errors: Exception) -> Any:
    """A graph that raises each of these once, and then draws."""
    left = list(errors)

    async def watch(order: Order, preview_every: int) -> AsyncIterator[Progress | Drawn]:
        if left:
            raise left.pop(0)
        async for news in watch_at_once(order, preview_every):
            yield news

    return watch


async def submitted(at: Running, house: House, owner: str = ANN, **changes: Any) -> str:
    return (await at.desk.submit(house.submission(owner, **changes)))[0].id


def test_a_job_gives_the_pictures_of_its_order(house: House) -> None:
    async def scenario() -> None:
        async with running(house) as at:
            id_ = await submitted(at, house, n=2)
            job = await at.comes_to(id_, "completed")
            drawn = await draw_at_once(house.order(n=2))
            assert job.drawn is not None
            assert [one.data for one in job.drawn.pictures] == [one.data for one in drawn.pictures]
            assert [one.seed for one in job.drawn.pictures] == [5, 6]
            await at.tells_of("completed")
            assert [type(one) for one in at.ended] == [Drawn]

    asyncio.run(scenario())


def test_so_many_are_drawn_at_a_time_and_in_their_turn(house: House) -> None:
    async def scenario() -> None:
        graph = Graph()
        async with running(with_settings(house, at_once=2), graph.watch) as at:
            mine = [await submitted(at, house, seed=seed) for seed in range(5)]
            await at.comes_to(mine[1], "generating")
            await asyncio.sleep(0.05)
            assert [(await at.desk.show(id_, ANN)).position for id_ in mine] == [None, None, 1, 2, 3]
            graph.let(5 * 4)
            for id_ in mine:
                await at.comes_to(id_, "completed")
            assert graph.most == 2
            assert [order.request.seed for order in at.orders] == [0, 1, 2, 3, 4]

    asyncio.run(scenario())


def test_a_job_tells_of_each_picture_and_of_its_newest_preview(house: House) -> None:
    async def scenario() -> None:
        graph = Graph()
        async with running(house, graph.watch) as at:
            id_ = await submitted(at, house, n=2, steps=4, terms={"previews": 2, "preview_every": 1})
            graph.let(6)
            job = await at.desk.show(id_, ANN)
            while [(one.image, one.step) for one in job.progress] != [(0, 3), (1, 3)]:
                await asyncio.sleep(0.005)
                job = await at.desk.show(id_, ANN)
            # the third preview is more than were asked for, and the second stays the newest
            assert job.preview is not None
            assert (job.preview.image, job.preview.step, job.preview.preview is not None) == (1, 2, True)
            assert all(one.steps == 4 for one in job.progress)
            graph.let(3)
            assert (await at.comes_to(id_, "completed")).progress == ()

    asyncio.run(scenario())


async def told(at: Running, id_: str, after: str = "") -> list[JobNews]:
    return [news async for news in at.desk.follow(id_, ANN, after)]


def kinds(news: list[JobNews]) -> list[Any]:
    return [
        one.what.status if isinstance(one.what, JobView) else (one.what.step, one.what.preview is not None)
        for one in news
    ]


async def seen(news: list[JobNews], count: int) -> None:
    while len(news) < count:
        await asyncio.sleep(0.001)


def test_who_follows_a_job_sees_it_from_the_queue_to_its_end(house: House) -> None:
    async def scenario() -> None:
        graph = Graph()
        async with running(with_settings(house, at_once=1), graph.watch) as at:
            first = await submitted(at, house)
            await at.comes_to(first, "generating")
            id_ = await submitted(at, house, terms={"previews": 1, "preview_every": 2})
            news: list[JobNews] = []

            async def follow() -> None:
                async for one in at.desk.follow(id_, ANN, ""):
                    news.append(one)

            following = asyncio.create_task(follow())
            # three steps and the end
            graph.let(4)
            await at.comes_to(first, "completed")
            # one at a time, so that nothing newer takes the place of what nobody has seen
            for there in (2, 3, 5, 6):
                await seen(news, there)
                graph.let(1)
            await following
            assert kinds(news) == ["queued", "generating", (1, False), (2, True), (2, False), (3, False), "completed"]
            assert news[0].what.position == 1  # type: ignore[union-attr]
            assert news[-1].id == END
            # who comes back after the end hears of it once more, and who was there before of nothing else
            assert kinds(await told(at, id_)) == ["completed"]

    asyncio.run(scenario())


def test_who_comes_back_goes_on_where_they_were(house: House) -> None:
    async def scenario() -> None:
        graph = Graph()
        async with running(house, graph.watch) as at:
            id_ = await submitted(at, house, steps=6, terms={"previews": 2, "preview_every": 2})
            graph.let(3)
            seen: list[JobNews] = []
            async for news in at.desk.follow(id_, ANN):
                seen.append(news)
                if kinds(seen)[-1] == (3, False):
                    break
            graph.let(2)
            while [one.step for one in (await at.desk.show(id_, ANN)).progress] < [5]:
                await asyncio.sleep(0.005)
            again = asyncio.create_task(told(at, id_, seen[-1].id))
            await asyncio.sleep(0.05)
            graph.let(10)
            rest = kinds(await again)
            assert rest[0] == "generating"
            steps = [step for step, preview in (one for one in rest if isinstance(one, tuple)) if not preview]
            assert steps[0] >= 5
            assert (2, True) not in rest, "it was seen before"
            assert (4, True) in rest
            assert rest[-1] == "completed"
            # of another runner's numbers nothing is known: all that there is comes
            stale = asyncio.create_task(told(at, await submitted(at, house), "99-1000"))
            await asyncio.sleep(0.05)
            graph.let(10)
            assert kinds(await stale)[-1] == "completed"

    asyncio.run(scenario())


def test_a_cancelled_job_stops_its_walk(house: House) -> None:
    async def scenario() -> None:
        graph = Graph()
        async with running(with_settings(house, at_once=1), graph.watch) as at:
            first, second = [await submitted(at, house, seed=seed) for seed in range(2)]
            following = asyncio.create_task(told(at, first))
            await at.comes_to(first, "generating")
            graph.let(1)
            await asyncio.sleep(0.05)
            assert (await at.desk.cancel(first, ANN)).status == "cancelled"
            assert (await at.desk.cancel(first, ANN)).status == "cancelled"
            assert kinds(await following)[-1] == "cancelled"
            await at.comes_to(second, "generating")
            assert graph.stopped == 1
            graph.let(9)
            await at.comes_to(second, "completed")
            await at.tells_of("cancelled", "completed")
            assert (await at.desk.show(first, ANN)).status == "cancelled"

    asyncio.run(scenario())


def test_another_owner_neither_follows_nor_cancels(house: House) -> None:
    async def scenario() -> None:
        async with running(house, Graph().watch) as at:
            id_ = await submitted(at, house)
            with pytest.raises(JobNotFoundError):
                await anext(at.desk.follow(id_, BEN))
            with pytest.raises(JobNotFoundError):
                await at.desk.cancel(id_, BEN)
            assert await at.comes_to(id_, "generating")

    asyncio.run(scenario())


def test_a_full_graph_is_waited_out_and_fails_nothing(house: House) -> None:
    asked: list[float] = []
    draw = failing(*[OverloadedError("too much waits", 7)] * (MOST_BEGUN + 4))

    async def watch(order: Order, preview_every: int) -> AsyncIterator[Progress | Drawn]:
        asked.append(house.clock.now)
        async for news in draw(order, preview_every):
            yield news

    async def scenario() -> None:
        async with running(house, watch) as at:
            id_ = await submitted(at, house)
            while (job := await at.desk.show(id_, ANN)).status != "completed":
                assert job.failure is None
                await asyncio.sleep(0.002)
                house.clock.now += 1
                at.runner.look()
            assert job.started is not None
            assert len(asked) == MOST_BEGUN + 5
            assert min(np.diff(asked)) >= 7, "it was asked again before it said"

    asyncio.run(scenario())


def test_a_job_for_a_stage_that_has_no_room_lets_others_go_on(house: House) -> None:
    """The first is refused for what it alone needs: the second is drawn meanwhile, and then the first."""

    async def scenario() -> None:
        refusal = HeldTooManyError("no replica runs", 7)
        async with running(with_settings(house, at_once=1), failing(refusal)) as at:
            first, second = [await submitted(at, house, seed=seed) for seed in range(2)]
            await at.comes_to(second, "completed")
            assert (await at.desk.show(first, ANN)).status == "queued"
            house.clock.now += 7
            at.runner.look()
            await at.comes_to(first, "completed")
            assert [order.request.seed for order in at.orders] == [0, 1, 0]

    asyncio.run(scenario())


def test_a_job_that_was_claimed_while_the_graph_said_that_it_is_full_waits_too(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused, claimed = threading.Event(), threading.Event()
    claim, put_back, calls = Work.claim, Work.put_back, list[None]()

    def late(work: Work) -> ClaimedJob | None:
        calls.append(None)
        if len(calls) != 2:
            return claim(work)
        # asked for while there was room still, and answered when there is none
        assert refused.wait(60)
        job = claim(work)
        claimed.set()
        return job

    def seen(work: Work, *arguments: Any, **named: Any) -> bool:
        waits = put_back(work, *arguments, **named)
        refused.set()
        return waits

    monkeypatch.setattr(Work, "claim", late)
    monkeypatch.setattr(Work, "put_back", seen)

    async def scenario() -> None:
        async with running(with_settings(house, at_once=2), failing(OverloadedError("too much waits", 7))) as at:
            first, second = [await submitted(at, house, seed=seed) for seed in range(2)]
            await asyncio.to_thread(claimed.wait)
            at.runner.look()
            await asyncio.sleep(0.1)
            assert [order.request.seed for order in at.orders] == [0], "it was asked again before it said"
            assert {(await at.desk.show(id_, ANN)).status for id_ in (first, second)} == {"queued"}
            house.clock.now += 7
            at.runner.look()
            for id_ in (first, second):
                await at.comes_to(id_, "completed")
            assert [order.request.seed for order in at.orders] == [0, 0, 1]

    asyncio.run(scenario())


def test_what_is_away_is_asked_again_later_and_only_so_often(house: House) -> None:
    async def scenario() -> None:
        away = [RayActorError(), UnavailableError("a part of the server is away")] * MOST_BEGUN
        async with running(house, failing(*away)) as at:
            bad = await submitted(at, house)
            times: list[float] = []
            while (job := await at.desk.show(bad, ANN)).status != "failed":
                if len(at.orders) > len(times):
                    times.append(house.clock.now)
                house.clock.now += 1
                at.runner.look()
                await asyncio.sleep(0.002)
            assert len(at.orders) == MOST_BEGUN
            assert job.failure is not None
            assert (job.failure.status, job.failure.code) == (503, "unavailable")
            gaps = np.diff(times)
            assert gaps[0] >= 1
            assert gaps[-1] >= 60
            await at.tells_of("failed")

    asyncio.run(scenario())


def test_one_that_is_away_holds_up_no_other(house: House) -> None:
    async def scenario() -> None:
        async with running(with_settings(house, at_once=1), failing(UnavailableError("away"))) as at:
            first, second = [await submitted(at, house, seed=seed) for seed in range(2)]
            await at.comes_to(second, "completed")
            assert (await at.desk.show(first, ANN)).status == "queued"
            house.clock.now += 1
            at.runner.look()
            await at.comes_to(first, "completed")

    asyncio.run(scenario())


def test_an_error_ends_a_job_in_openais_words_and_tells_nothing_else(house: House, serve_log: Any) -> None:
    async def scenario() -> None:
        errors = (FieldError("size='9x9': must be larger", "size"), RuntimeError("canary-77 at /home/somebody"))
        async with running(with_settings(house, at_once=1), failing(*errors)) as at:
            first, second = [await submitted(at, house) for _ in range(2)]
            failure = (await at.comes_to(first, "failed")).failure
            assert failure is not None
            assert (failure.status, failure.param, failure.code) == (422, "size", "invalid_value")
            failure = (await at.comes_to(second, "failed")).failure
            assert failure is not None
            assert (failure.status, failure.message) == (500, "something went wrong on our side")
            assert [type(one) for one in at.ended] == [FieldError, RuntimeError]

    asyncio.run(scenario())
    assert "RuntimeError" in serve_log.text
    assert "canary-77" not in serve_log.text


def test_a_deadline_counts_from_when_the_job_was_accepted(house: House) -> None:
    async def scenario() -> None:
        graph = Graph()
        async with running(with_settings(house, at_once=1), graph.watch) as at:
            await submitted(at, house)
            in_time, late = [await submitted(at, house, terms={}, order=order) for order in orders]
            house.clock.now += 60
            graph.let(20)
            await at.comes_to(in_time, "completed")
            failure = (await at.comes_to(late, "failed")).failure
            assert failure is not None
            assert (failure.status, failure.code, failure.should_retry) == (504, "deadline_exceeded", False)
            assert [order.terms.deadline_s for order in at.orders] == [None, 20]

    orders = [replace(house.order(), terms=Terms("ann", deadline_s=seconds)) for seconds in (80, 60)]
    asyncio.run(scenario())


def test_pictures_of_links_are_kept_elsewhere(house: House) -> None:
    kept: list[bytes] = []

    async def keep(data: bytes, format_: PictureFormat) -> Link:
        kept.append(data)
        return Link(f"{len(kept)}.{format_}", 99, "signed")

    async def scenario() -> None:
        async with running(house, keep=keep) as at:
            job = await at.comes_to(await submitted(at, house, n=2, terms={"links": True}), "completed")
            assert [link.name for link in job.links] == ["1.png", "2.png"]
            assert len(set(kept)) == 2

    asyncio.run(scenario())


def test_no_room_for_pictures_fails_the_job(house: House) -> None:
    async def scenario() -> None:
        async with running(with_settings(house, most_bytes=3000)) as at:
            small = await submitted(at, house)
            failure = (await at.comes_to(small, "failed")).failure
            assert failure is not None
            assert (failure.status, failure.code) == (507, "picture_not_kept")

    probe = with_settings(house).order()
    assert len(asyncio.run(draw_at_once(probe)).pictures[0].data) > 0
    asyncio.run(scenario())


def test_a_runner_that_is_killed_leaves_its_jobs_to_the_next(house: House) -> None:
    async def scenario() -> None:
        graph = Graph()
        async with running(with_settings(house, at_once=2), graph.watch) as at:
            mine = [await submitted(at, house, seed=seed) for seed in range(4)]
            await at.comes_to(mine[1], "generating")
            graph.let(2)
            await asyncio.sleep(0.05)
        async with running(house) as at:
            for id_ in mine:
                await at.comes_to(id_, "completed")
            assert [order.request.seed for order in at.orders] == [0, 1, 2, 3]
            for seed, id_ in enumerate(mine):
                drawn = (await at.desk.show(id_, ANN)).drawn
                assert drawn is not None
                assert drawn.pictures[0].data == (await draw_at_once(house.order(seed=seed))).pictures[0].data

    asyncio.run(scenario())


def test_of_two_runners_the_later_draws(house: House) -> None:
    async def scenario() -> None:
        graph = Graph()
        async with running(with_settings(house, at_once=1), graph.watch) as old:
            mine = [await submitted(old, house, seed=seed) for seed in range(3)]
            await old.comes_to(mine[0], "generating")
            async with running(house) as new:
                for id_ in mine:
                    await new.comes_to(id_, "completed")
                graph.let(99)
                await asyncio.sleep(0.1)
                assert old.over == []
                assert len(old.orders) == 1
                assert [order.request.seed for order in new.orders] == [0, 1, 2]
                # what one has drawn ends for those too who follow it at the other
                following = asyncio.create_task(told(old, await submitted(new, house)))
                await asyncio.sleep(0.05)
                while not following.done():
                    await old.desk.settle()
                    await asyncio.sleep(0.005)
                assert kinds(await following)[-1] == "completed"
            last = await submitted(old, house, seed=7)
            await asyncio.sleep(0.1)
            assert (await old.desk.show(last, ANN)).status == "queued", "the other one may be there again at once"
            house.clock.now += AWAY_S
            graph.let(99)
            await old.comes_to(last, "completed")
            assert old.orders[-1].request.seed == 7

    asyncio.run(scenario())
