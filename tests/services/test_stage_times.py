"""Where a picture's time goes, and its place in the queue: from the denoiser's replica to the answer."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Coroutine
from contextvars import ContextVar
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from components.contract import Kind
from components.messages import Source
from services import step_loop
from services.errors import ServingError
from services.joint_runs import advance
from services.messages import (
    Drawn,
    Encoding,
    LiveModel,
    Order,
    Progress,
    Queued,
    StageTimes,
    WalkOrder,
    WalkReport,
)
from services.timelines.spans import Span
from tests.services.test_denoiser import House, Published, Tally, in_house, request, until
from tests.services.test_graph import Stages, Walks


async def heard(house: House, reports: list[WalkReport], **order: Any) -> None:
    async for report in house.reports(request(3), **order):
        reports.append(report)


def test_those_that_wait_hear_their_place_until_their_first_step(
    published: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()

    def advance_later(*arguments: Any) -> Any:
        go_on.wait()
        return advance(*arguments)

    monkeypatch.setattr(step_loop, "advance", advance_later)

    async def work(house: House) -> None:
        batcher = house.deployment._loop._batcher
        full = [asyncio.create_task(house.latents(request(9, seed=seed))) for seed in range(4)]
        await until(lambda: batcher.admitted == 4, *full)
        told: list[list[WalkReport]] = [[] for _ in range(4)]
        late = [asyncio.create_task(heard(house, one, tell_position=True, report_every=1)) for one in told]
        await until(lambda: all(told), *full, *late)
        assert [[report.position for report in reports] for reports in told] == [[1], [2], [3], [4]]
        # who leaves makes room
        late[1].cancel()
        await until(lambda: len(told[3]) == 2, *full, late[0], *late[2:])
        assert [[report.position for report in reports] for reports in told] == [[1], [2], [3, 2], [4, 3]]
        go_on.set()
        await asyncio.gather(*full, *late, return_exceptions=True)
        for reports in (told[0], *told[2:]):
            places = [report.position for report in reports if report.position]
            assert places == sorted(set(places), reverse=True), "it never grows, and each is told once"
            assert [report.position == 0 for report in reports] == [False] * len(places) + [True] * 3
            assert reports[-1].latents is not None

    try:
        in_house(published, work, queued_pictures=1000)
    finally:
        go_on.set()


def test_who_does_not_ask_hears_of_no_place(published: Published) -> None:
    async def work(house: House) -> None:
        reports: list[WalkReport] = []
        full = [asyncio.create_task(house.latents(request(30, seed=seed))) for seed in range(4)]
        await until(lambda: house.deployment._loop._batcher.admitted == 4, *full)
        await asyncio.gather(heard(house, reports), *full)
        assert [report.position for report in reports] == [0] * len(reports)

    in_house(published, work, queued_pictures=1000)


def test_the_last_report_tells_how_long_it_waited(published: Published) -> None:
    async def work(house: House) -> None:
        full = [asyncio.create_task(house.latents(request(60, seed=seed))) for seed in range(4)]
        await until(lambda: house.deployment._loop._batcher.admitted == 4, *full)
        reports: list[WalkReport] = []
        begun = time.monotonic()
        await heard(house, reports, report_every=1)
        took = time.monotonic() - begun
        span = reports[-1].span
        assert span is not None
        assert 0 < span.seconds_of("queue") < took
        await asyncio.gather(*full)

    in_house(published, work, queued_pictures=1000)


def test_a_walk_is_either_in_runs_or_waits_for_them(published: Published) -> None:
    async def work(house: House) -> None:
        tally = house.deployment._loop._metrics = Tally()  # type: ignore[assignment]
        begun = time.monotonic()
        # more than fit into a run, so that each waits between its runs too
        await asyncio.gather(*(house.latents(request(20, seed=seed)) for seed in range(8)))
        took = time.monotonic() - begun
        walked = tally.told["walked"]
        assert len(walked) == 8
        runs = [seconds for *_, seconds in tally.told["ran"]]
        for pin, waited_s, ran_s in walked:
            assert pin == house.pin
            assert waited_s > 0
            assert 0 < ran_s < sum(runs)
            assert waited_s + ran_s <= took

    in_house(published, work, queued_pictures=1000)


WAITED = Span("walk", 0.0, 0.02, parts=(Span("queue", 0.0, 0.015), Span("run", 0.015, 0.005)))


class Waiting(Walks):
    """Walks that wait before their first step."""

    async def _reports(self, order: WalkOrder, dies_at: int | None) -> AsyncIterator[WalkReport]:
        for position in (2, 1):
            yield WalkReport(0, self._total, position=position)
        await asyncio.sleep(0.02)
        async for report in super()._reports(order, dies_at):
            last = report.latents is not None
            yield replace(report, span=WAITED if last else None)


def check(times: StageTimes | None) -> StageTimes:
    assert times is not None
    encoded = max(times.text_encoder_s, times.vae_encoder_s or 0.0)
    after = [times.queued_s, times.denoiser_s, times.vae_decoder_s, times.file_s]
    assert min(encoded, *after) >= 0
    assert encoded + sum(after) <= times.total_s
    return times


def test_the_graph_tells_places_and_times_of_each_stage(live: LiveModel) -> None:
    stages = Stages(Waiting())

    async def watch(order: Order) -> list[Any]:
        return [news async for news in stages.graph.watch(order)]

    begun = time.monotonic()
    *news, drawn = asyncio.run(watch(Order(request(10), live.pins, Encoding())))
    took = time.monotonic() - begun
    assert [(one.image, one.position) for one in news if isinstance(one, Queued)] == [(0, 2), (0, 1)]
    assert isinstance(news[2], Progress), "steps come after"
    assert isinstance(drawn, Drawn)
    times = check(drawn.pictures[0].times)
    assert times.vae_encoder_s is None
    assert times.queued_s == 0.015
    assert 0.005 <= times.denoiser_s <= times.total_s <= took


def test_without_somebody_who_watches_no_place_is_asked_for(live: LiveModel) -> None:
    stages = Stages(Walks())
    drawn = stages.draw(Order(request(10), live.pins, Encoding()))
    check(drawn.pictures[0].times)
    assert not stages.walks.orders[0].tell_position


def test_the_encoding_of_a_source_counts(live: LiveModel) -> None:
    source = Source(np.zeros((1, 64, 64, 3), np.float32))
    drawn = Stages(Walks()).draw(Order(request(10), live.pins, Encoding(), source=source))
    times = check(drawn.pictures[0].times)
    assert times.vae_encoder_s is not None


def test_a_walk_tells_of_its_wait_and_every_run(published: Published) -> None:
    async def work(house: House) -> None:
        walks = [heard(house, told) for told in (one, other)]
        await asyncio.gather(*walks)

    one: list[WalkReport] = []
    other: list[WalkReport] = []
    begun = time.time()
    in_house(published, work)
    ended = time.time()
    pin = published[0].pins[Kind.DENOISER]
    for reports in (one, other):
        assert [report.span is None for report in reports[:-1]] == [True] * (len(reports) - 1)
        walk = reports[-1].span
        assert walk is not None
        assert (walk.name, walk.stage, walk.component) == ("walk", Kind.DENOISER, pin)
        queue, *runs = walk.parts
        assert queue.name == "queue"
        assert [run.facts["first_evaluation"] for run in runs] == [1, 2, 3]
        times = [begun, walk.start, *(at for run in runs for at in (run.start, run.end)), walk.end, ended]
        assert times == sorted(times)
    shared = [run.facts for run in one[-1].span.parts[1:] if run.facts["pictures"] == 2] if one[-1].span else []
    assert shared, "they shared runs"
    assert all(facts["rows"] == 4 for facts in shared)


def test_the_graph_tells_what_was_done_for_each_picture(live: LiveModel) -> None:
    begun = time.time()
    source = Source(np.zeros((1, 64, 64, 3), np.float32))
    order = Order(request(10, n=2), live.pins, Encoding(), source=source)
    order = replace(order, store_latents=True, contract=live.contracts[Kind.DENOISER])
    drawn = Stages(Walks()).draw(order)
    graph = drawn.span
    assert graph is not None
    assert begun <= graph.start <= graph.end <= time.time()
    assert [part.name for part in graph.parts] == ["text_encoder", "vae_encoder", "picture", "picture"]
    assert [[part.name for part in call.parts] for call in graph.parts[:2]] == [["queue", "encode", "transfer"]] * 2
    for image, picture in enumerate(graph.parts[2:]):
        assert picture.facts == {"image": image}
        assert [part.name for part in picture.parts] == ["denoiser", "vae_decoder", "file", "keep"]
        walked, decoded = picture.parts[:2]
        assert [part.name for part in walked.parts] == ["queue", "walk", "transfer"]
        assert [part.name for part in decoded.parts] == ["queue", "decode", "transfer"]
        for call in (*graph.parts[:2], walked, decoded):
            # the graph's own, which are exported with it
            assert [part.replica for part in call.parts if part.name in ("queue", "transfer")] == [None] * (
                len(call.parts) - 1
            )
        assert picture.parts[2].facts == {"bytes": len(drawn.pictures[image].data)}
        ends = [part.end for part in picture.parts[:3]]
        assert ends == sorted(ends)


def test_what_a_replica_that_stopped_had_of_it_is_told(live: LiveModel) -> None:
    drawn = Stages(Walks(5)).draw(Order(request(10), live.pins, Encoding()))
    assert drawn.span is not None
    [denoiser] = [span for span in drawn.span.walk() if span.name == "denoiser"]
    assert [part.name for part in denoiser.parts] == ["lost", "queue", "walk", "transfer"]
    assert denoiser.parts[0].component == live.pins[Kind.DENOISER]
    check(drawn.pictures[0].times)


def test_a_walk_that_fails_is_logged_as_its_own_request(published: Published, monkeypatch: pytest.MonkeyPatch) -> None:
    asks: ContextVar[str] = ContextVar("asks", default="nobody")
    logged: list[tuple[str, str]] = []
    monkeypatch.setattr(
        step_loop._log, "error", lambda form, *values: logged.append((asks.get(), form % values)), raising=True
    )

    def fails_for_large(stage: Any, tracks: Any, *more: Any) -> Any:
        if tracks[0].query.latents.shape[2] == 16:
            raise ValueError("a fault of ours")
        return advance(stage, tracks, *more)

    monkeypatch.setattr(step_loop, "advance", fails_for_large)

    async def asked_by(who: str, walk: Coroutine[Any, Any, Any]) -> Any:
        asks.set(who)
        return await walk

    async def work(house: House) -> None:
        first = asyncio.create_task(asked_by("first", house.latents(request(200))))
        await until(lambda: house.deployment._loop._batcher.admitted, first)
        with pytest.raises(ServingError):
            await asyncio.create_task(asked_by("second", house.latents(request(3, side=128))))
        await first

    in_house(published, work)
    assert logged == [("second", f"{published[0].pins[Kind.DENOISER]}: ValueError")]
