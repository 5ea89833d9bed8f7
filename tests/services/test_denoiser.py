"""The denoiser's deployment without Ray: pins, shared runs, cancellation, reports, admission, deadlines."""

import asyncio
import threading
import time
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest

from components.contract import Kind
from components.folder import ComponentFolder
from components.messages import EncodedText, FloatArray, ImageRequest, Snapshot
from components.reference import ComponentRef
from pipeline.denoiser import Denoiser
from pipeline.errors import RequestError
from pipeline.jobs import denoise_jobs
from pipeline.request import RequestRules
from pipeline.track import Track
from runtime.errors import RuntimeFault
from runtime.interrupt import Interrupt
from runtime.settings import SessionSettings
from services.denoiser import DenoiserDeployment, DenoiserSettings
from services.errors import DeadlineExceededError, OverloadedError, ServingError, StartError
from services.messages import LiveModel, Terms, WalkOrder, WalkReport
from services.stage_host import StageSettings
from tests.requests import image_request
from tests.services.conftest import FakeCatalog

Published = tuple[LiveModel, StageSettings]
Result = TypeVar("Result")

ENCODED = EncodedText({"hidden_states": np.ones((2, 8, 6), np.float32)}, (False, False))
PLAIN = EncodedText({"hidden_states": np.ones((1, 8, 6), np.float32)}, (False,))


def request(steps: int = 3, side: int = 64, **changes: Any) -> ImageRequest:
    return image_request(**{"steps": steps, "width": side, "height": side, "seed": 5, "n": 1, **changes})


class House:
    """A replica without Ray, and what its runs of the U-Net looked like."""

    def __init__(self, deployment: DenoiserDeployment, pin: ComponentRef) -> None:
        self.deployment = deployment
        self.pin = pin

    def reports(self, what: ImageRequest, **order: Any) -> AsyncIterator[WalkReport]:
        base = WalkOrder(uuid.uuid4().hex, self.pin, what, Terms(), 0.0, Snapshot(), report_every=4)
        encoded = PLAIN if what.guidance == 1 else ENCODED
        return self.deployment.walk(replace(base, **order), encoded)

    async def latents(self, what: ImageRequest, **order: Any) -> FloatArray:
        *_, last = [report async for report in self.reports(what, **order)]
        assert last.latents is not None
        return last.latents

    async def given_up_by(self, walk: "asyncio.Task[Any]") -> None:
        walk.cancel()
        with pytest.raises(asyncio.CancelledError):
            await walk


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """The rows of each track of each run of the U-Net that ended well."""
    made: list[list[int]] = []
    advance = Denoiser.advance

    def recorded(stage: Denoiser, tracks: Sequence[Track], interrupt: Interrupt | None = None) -> None:
        rows = [track.rows for track in tracks]
        advance(stage, tracks, interrupt)
        made.append(rows)

    monkeypatch.setattr(Denoiser, "advance", recorded)
    return made


def settings(published: Published, **changes: Any) -> DenoiserSettings:
    chosen = {"run_rows": 8, "run_pixels": None, "queued_pictures": 64, "rules": RequestRules(), **changes}
    return DenoiserSettings(**published[1].model_dump(), **chosen)


def in_house(published: Published, work: Callable[[House], Coroutine[Any, Any, Result]], **changes: Any) -> Result:
    async def run() -> Result:
        deployment = DenoiserDeployment.__new__(DenoiserDeployment)
        chosen = settings(published, **changes)
        await deployment.__init__(FakeCatalog(published[0]), chosen)  # type: ignore[misc]  # as Serve does
        return await work(House(deployment, published[0].pins[Kind.DENOISER]))

    return asyncio.run(run())


async def until(there: Callable[[], object], *walks: "asyncio.Task[Any]") -> None:
    """Wait for something that `walks` bring about; where one of them fails, so does the test, instead of hanging."""
    while not there():
        for walk in walks:
            if walk.done():
                walk.result()
        await asyncio.sleep(0.001)


@pytest.fixture(scope="module")
def alone(toy_bundle: Path) -> Callable[[ImageRequest], FloatArray]:
    stage = Denoiser(ComponentFolder.open(toy_bundle / Kind.DENOISER), SessionSettings(threads=1))

    def latents(what: ImageRequest) -> FloatArray:
        return stage.denoise(denoise_jobs(what, PLAIN if what.guidance == 1 else ENCODED, stage.space)[0])

    return latents


def test_walks_of_all_kinds_share_runs_and_keep_their_bytes(
    published: Published, runs: list[list[int]], alone: Callable[[ImageRequest], FloatArray]
) -> None:
    mixed = [
        request(40),
        request(30, guidance=1.0, seed=1),
        request(20, sampler="heun", seed=2),
        request(25, sampler="euler_ancestral", seed=3, guidance_end=0.5),
    ]

    async def work(house: House) -> list[FloatArray]:
        return await asyncio.gather(*map(house.latents, mixed))

    for latents, what in zip(in_house(published, work), mixed, strict=True):
        np.testing.assert_array_equal(latents, alone(what))
    assert max(map(len, runs)) == 4
    assert max(map(sum, runs)) <= 8


def test_forty_requests_wait_in_one_policy(published: Published, runs: list[list[int]]) -> None:
    async def work(house: House) -> int:
        walks = [asyncio.create_task(house.latents(request(20, seed=seed))) for seed in range(40)]
        batcher = house.deployment._loop._batcher
        await until(lambda: batcher.admitted == 40, *walks)
        waiting = batcher.waiting
        await asyncio.gather(*walks)
        assert batcher.queued == 0
        return waiting

    # of forty that were admitted four at most share the run that is under way
    assert in_house(published, work) >= 36
    assert max(map(sum, runs)) == 8


def test_reports_tell_how_far_it_is_and_what_to_go_on_from(published: Published) -> None:
    async def work(house: House) -> None:
        what = request(10)
        reports = [report async for report in house.reports(what)]
        assert [(report.step, report.steps) for report in reports] == [(1, 10), (5, 10), (9, 10), (10, 10)]
        assert [len(report.progress.estimates) for report in reports] == [1, 4, 4, 0]
        assert [report.latents is None for report in reports] == [True, True, True, False]
        snapshot = reports[0].progress.after(reports[1].progress)
        went_on = [report async for report in house.reports(what, snapshot=snapshot, report_every=1)]
        assert [report.step for report in went_on] == [6, 7, 8, 9, 10]
        np.testing.assert_array_equal(went_on[-1].latents, reports[-1].latents)
        every_step = [report async for report in house.reports(what, report_every=1)]
        assert [report.step for report in every_step] == list(range(1, 11))

    in_house(published, work)


def test_a_snapshot_of_the_whole_walk_needs_no_run(published: Published, runs: list[list[int]]) -> None:
    async def work(house: House) -> None:
        what = request(3)
        reports = [report async for report in house.reports(what, report_every=1)]
        stage = await house.deployment._host.stage(house.pin)
        track = stage.begin(denoise_jobs(what, ENCODED, stage.space)[0])
        while not track.done:
            stage.advance([track])
        assert track.estimate is not None
        whole = reports[0].progress.after(reports[1].progress).after(Snapshot((track.estimate,)))
        before = len(runs)
        np.testing.assert_array_equal(await house.latents(what, snapshot=whole), reports[-1].latents)
        assert len(runs) == before

    in_house(published, work)


def test_a_walk_given_up_ends_at_its_next_step(published: Published, runs: list[list[int]]) -> None:
    async def work(house: House) -> None:
        mate = asyncio.create_task(house.latents(request(150, 512, guidance=1.0)))
        walk = asyncio.create_task(house.latents(request(150, 512)))
        await until(lambda: [2, 1] in runs or [1, 2] in runs, mate, walk)
        await house.given_up_by(walk)
        at_once = len(runs)
        await until(lambda: len(runs) >= at_once + 5, mate)
        assert [rows for rows in runs[at_once + 1 :] if 2 in rows] == []
        await house.given_up_by(mate)
        batcher = house.deployment._loop._batcher
        assert (batcher.cancelled, batcher.queued, batcher.waiting) == (2, 0, 0)
        assert batcher.evaluations_wasted == sum(map(len, runs)) + 1

    in_house(published, work, queued_pictures=1000)


def test_a_run_of_nobody_else_is_broken_off_in_the_middle(
    published: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults: list[Exception] = []
    begun = threading.Event()
    advance = Denoiser.advance

    def recorded(stage: Denoiser, tracks: Sequence[Track], interrupt: Interrupt | None = None) -> None:
        begun.set()
        try:
            advance(stage, tracks, interrupt)
        except RuntimeFault as fault:
            faults.append(fault)
            raise

    monkeypatch.setattr(Denoiser, "advance", recorded)

    async def work(house: House) -> None:
        for _ in range(20):
            begun.clear()
            walk = asyncio.create_task(house.latents(request(150, 1024)))
            await until(begun.is_set, walk)
            await house.given_up_by(walk)
            if faults:
                break
        assert faults, "twenty runs came to their end although nobody waited for them"
        # the loop goes on, and the replica is well
        await house.latents(request(2))
        await house.deployment.check_health()

    in_house(published, work)


def test_a_stream_that_is_closed_ends_its_walk(published: Published) -> None:
    async def work(house: House) -> None:
        async with aclosing(house.reports(request(150, 512), report_every=1)) as reports:  # type: ignore[type-var]
            async for _ in reports:
                break
        batcher = house.deployment._loop._batcher
        assert (batcher.cancelled, batcher.queued) == (1, 0)

    in_house(published, work)


def test_too_much_work_is_refused_with_the_time_to_wait(published: Published) -> None:
    async def work(house: House) -> None:
        await house.latents(request(25))
        fits = [asyncio.create_task(house.latents(request(150, 512, seed=seed))) for seed in range(2)]
        batcher = house.deployment._loop._batcher
        await until(lambda: batcher.admitted == 3, *fits)
        with pytest.raises(OverloadedError) as refusal:
            await house.latents(request(150, 512))
        rate = house.deployment._loop._rate.per_second
        assert rate is not None
        assert refusal.value.retry_after_s is not None
        # what waits has to shrink by about one of these walks
        one = 2 * 64 * 64 * 150
        assert 0.3 * one / rate <= refusal.value.retry_after_s <= 1 + 3 * one / rate
        assert batcher.refused == 1
        await asyncio.gather(*map(house.given_up_by, fits))
        await house.latents(request(2))

    # two of the walks fit, three do not
    in_house(published, work, queued_pictures=2 * 150 * 64 // 25 + 1)


def test_a_deadline_that_cannot_be_met_is_refused_at_once(published: Published, runs: list[list[int]]) -> None:
    async def work(house: House) -> None:
        await house.latents(request(25, 512))
        busy = asyncio.create_task(house.latents(request(150, 1024)))
        await until(lambda: house.deployment._loop._batcher.waiting == 0 and len(runs) > 26, busy)
        with pytest.raises(DeadlineExceededError, match="deadline_s=0.001: cannot be met"):
            await house.latents(request(100, 512), terms=Terms(deadline_s=0.001))
        await house.given_up_by(busy)
        await house.latents(request(3), terms=Terms(deadline_s=60))

    in_house(published, work)


def test_a_deadline_that_passes_ends_the_walk(published: Published, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(house: House) -> None:
        loop, late = house.deployment._loop, time.monotonic
        walk = asyncio.create_task(house.latents(request(150, 512), terms=Terms(deadline_s=1000.0)))
        await until(lambda: loop._batcher.evaluations > 3, walk)
        monkeypatch.setattr(loop, "_clock", lambda: late() + 2000)
        with pytest.raises(DeadlineExceededError, match=r"deadline_s=1000: has passed after \d+ of 150 steps"):
            await walk
        assert loop._batcher.queued == 0

    in_house(published, work)


def test_priority_decides_who_goes_first(published: Published) -> None:
    order: list[str] = []

    async def work(house: House) -> None:
        async def walk(priority: Any, seed: int) -> None:
            await house.latents(request(30, seed=seed), terms=Terms(priority=priority))
            order.append(priority)

        await asyncio.gather(*(walk(priority, seed) for seed in range(8) for priority in ("low", "high")))

    in_house(published, work, run_rows=2)
    assert order[:8] == ["high"] * 8


def test_one_walk_that_fails_takes_no_other_with_it(published: Published, monkeypatch: pytest.MonkeyPatch) -> None:
    advance = Denoiser.advance

    def failing(stage: Denoiser, tracks: Sequence[Track], interrupt: Interrupt | None = None) -> None:
        if any(track.steps == 13 for track in tracks):
            raise RuntimeFault("denoiser: a row broke it")
        advance(stage, tracks, interrupt)

    monkeypatch.setattr(Denoiser, "advance", failing)

    async def work(house: House) -> list[Any]:
        walks = [house.latents(request(steps)) for steps in (12, 13, 14)]
        return await asyncio.gather(*walks, return_exceptions=True)

    twelve, thirteen, fourteen = in_house(published, work)
    assert isinstance(thirteen, ServingError)
    assert "row" not in str(thirteen)
    assert twelve.shape == fourteen.shape == (1, 4, 8, 8)


def test_a_fault_of_ours_hangs_nobody_and_shows_in_the_health(
    published: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(house: House) -> None:
        monkeypatch.setattr(house.deployment._loop._batcher, "done", lambda _returning: 1 / 0)
        with pytest.raises(ServingError, match="something went wrong"):
            await house.latents(request(3))
        with pytest.raises(ServingError):
            await house.deployment.check_health()

    in_house(published, work)


def test_what_the_stage_refuses_reaches_the_caller(published: Published) -> None:
    async def work(house: House) -> None:
        with pytest.raises(RequestError, match="steps=0"):
            await house.latents(request(0))

    in_house(published, work)


def test_an_unknown_pin_is_refused_and_the_next_call_works(published: Published) -> None:
    async def work(house: House) -> None:
        pin = house.pin
        house.pin = ComponentRef(name="toy.denoiser", version=9, sha256="0" * 64)
        with pytest.raises(StartError, match="toy.denoiser/9"):
            await house.latents(request())
        house.pin = pin
        await house.latents(request())

    in_house(published, work)


def test_a_run_too_small_for_the_largest_picture_is_a_failed_start(published: Published) -> None:
    async def work(_house: House) -> None:
        raise AssertionError

    with pytest.raises(StartError, match=r"denoiser.run_pixels=100: must be at least 32768"):
        in_house(published, work, run_pixels=100)
