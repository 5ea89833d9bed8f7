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

from components.contract import SKIP_LAYERS, Kind, TensorSpec
from components.folder import ComponentFolder
from components.messages import EncodedImage, EncodedText, FloatArray, ImageRequest, LatentDistribution, Snapshot
from components.reference import ComponentRef
from pipeline.denoiser import Denoiser
from pipeline.errors import RequestError
from pipeline.jobs import denoise_jobs
from pipeline.request import RequestRules
from pipeline.track import Track
from runtime.errors import RuntimeFault
from runtime.interrupt import Interrupt
from runtime.session import Session
from runtime.settings import SessionSettings
from services.denoiser import DenoiserDeployment, DenoiserSettings
from services.errors import DeadlineExceededError, OverloadedError, ServingError, StartError
from services.messages import LiveModel, Terms, WalkOrder, WalkReport, Worked
from services.stage_args import DenoiserArgs
from services.stage_host import StageSettings
from services.step_loop import StepLoop
from services.timelines.spans import Span
from tests.requests import image_request
from tests.services.conftest import FakeRollout

Published = tuple[LiveModel, StageSettings]
Result = TypeVar("Result")

ENCODED = EncodedText({"hidden_states": np.ones((2, 8, 6), np.float32)}, (False, False))
ENCODING = Span("encode", 0.0, 0.0)
PLAIN = EncodedText({"hidden_states": np.ones((1, 8, 6), np.float32)}, (False,))


def request(steps: int = 3, side: int = 64, **changes: Any) -> ImageRequest:
    return image_request(**{"steps": steps, "width": side, "height": side, "seed": 5, "n": 1, **changes})


class Tally:
    """DenoiserMetrics that can be looked at."""

    def __init__(self) -> None:
        self.told: dict[str, list[tuple[Any, ...]]] = {}

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *values: self.told.setdefault(name, []).append(values)


class House:
    """A replica without Ray, and what its runs of the U-Net looked like."""

    def __init__(self, deployment: DenoiserDeployment, pin: ComponentRef) -> None:
        self.deployment = deployment
        self.pin = pin

    def reports(
        self, what: ImageRequest, source: LatentDistribution | None = None, **order: Any
    ) -> AsyncIterator[WalkReport]:
        base = WalkOrder(order=uuid.uuid4().hex, pin=self.pin, request=what, terms=Terms(), report_every=4)
        encoded = Worked(PLAIN if what.guidance == 1 else ENCODED, ENCODING)
        return self.deployment.walk(
            replace(base, **order), encoded, None if source is None else Worked(source, ENCODING)
        )

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
    rules = changes.pop("rules", RequestRules())
    return DenoiserSettings(registry=published[1].registry, args=DenoiserArgs(threads=1, **changes), rules=rules)


def in_house(published: Published, work: Callable[[House], Coroutine[Any, Any, Result]], **changes: Any) -> Result:
    async def run() -> Result:
        deployment = DenoiserDeployment.__new__(DenoiserDeployment)
        chosen = settings(published, **changes)
        await deployment.__init__(FakeRollout(published[0]), chosen)  # type: ignore[misc]  # as Serve does
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
        return stage.denoise(denoise_jobs(what, PLAIN if what.guidance == 1 else ENCODED, stage.contract)[0])

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


def test_a_run_holds_rows_from_noise_from_a_picture_and_within_a_mask(
    published: Published, alone: Callable[[ImageRequest], FloatArray], toy_bundle: Path
) -> None:
    moments = np.random.default_rng(0).standard_normal((2, 1, 4, 8, 8), np.float32)
    source, mask = LatentDistribution(*moments), np.arange(64).reshape(8, 8) % 9 < 4
    from_noise, from_picture, within = request(12), request(16, strength=0.75, seed=6), request(12, seed=7)

    async def work(house: House) -> tuple[tuple[FloatArray, ...], list[tuple[Any, ...]]]:
        tally = house.deployment._loop._metrics = Tally()  # type: ignore[assignment]
        made = await asyncio.gather(
            house.latents(from_noise),
            house.latents(from_picture, source=source),
            house.latents(within, source=source, mask=mask),
        )
        return made, tally.told["ran"]

    made, ran = in_house(published, work)
    runs = [(evaluations, rows) for _pin, evaluations, rows, *_ in ran]
    assert sum(evaluations for evaluations, _ in runs) == 3 * 12
    # two rows of each, but in the runs before all of them had come
    assert (3, 6) in runs
    assert runs.count((3, 6)) >= len(runs) - 4
    stage = Denoiser(ComponentFolder.open(toy_bundle / Kind.DENOISER), SessionSettings(threads=1))
    np.testing.assert_array_equal(made[0], alone(from_noise))
    for latents, what, image in (
        (made[1], from_picture, EncodedImage(source)),
        (made[2], within, EncodedImage(source, mask)),
    ):
        np.testing.assert_array_equal(
            latents, stage.denoise(denoise_jobs(what, ENCODED, stage.contract, image=image)[0])
        )


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
        loop = house.deployment._loop
        # ten pictures of this kind would take ten seconds
        loop._rate.served(2 * 64 * 100, 1.0)
        with pytest.raises(DeadlineExceededError, match="deadline_s=0.9: cannot be met"):
            await house.latents(request(100), terms=Terms(deadline_s=0.9))
        with pytest.raises(DeadlineExceededError, match="deadline_s=5: cannot be met"):
            await house.latents(request(100), terms=Terms(deadline_s=5), waited_s=4.5)
        assert runs == []
        # what was under way elsewhere is not refused for what it would take
        await house.latents(request(100), terms=Terms(deadline_s=0.9), admitted=True)
        loop._rate.served(2 * 64 * 100 * 1000, 1000.0)
        await house.latents(request(100), terms=Terms(deadline_s=5), waited_s=1)

    in_house(published, work)


def test_a_deadline_that_passes_ends_the_walk_in_the_middle_of_a_run(
    published: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = threading.Event()
    interrupts: list[Interrupt | None] = []

    def endless(_stage: Denoiser, _tracks: Sequence[Track], interrupt: Interrupt | None = None) -> None:
        interrupts.append(interrupt)
        while interrupt is not None and not interrupt.asked:
            time.sleep(0.001)
        asked.set()
        raise RuntimeFault("denoiser: broken off")

    monkeypatch.setattr(Denoiser, "advance", endless)

    async def work(house: House) -> None:
        with pytest.raises(DeadlineExceededError, match="deadline_s=0.2: has passed after 0 of 150 steps"):
            await house.latents(request(150), terms=Terms(deadline_s=0.2))
        await until(asked.is_set)
        assert house.deployment._loop._batcher.queued == 0

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


def test_a_run_has_room_for_the_row_that_skips_layers(published: Published) -> None:
    live, stage = published
    plain = live.contracts[Kind.DENOISER]
    skips = TensorSpec(name=SKIP_LAYERS, dtype="float32", shape=("batch", 24), optional=True)
    contract = plain.model_copy(update={"inputs": (*plain.inputs, skips)})

    def settings(**args: Any) -> DenoiserSettings:
        return DenoiserSettings(registry=stage.registry, rules=RequestRules(), args=DenoiserArgs(**args))

    assert settings().limits(contract).pixels == settings().limits(plain).pixels * 3 // 2
    assert settings(run_rows=2).limits(plain).rows == 2
    with pytest.raises(
        StartError, match="denoiser.run_rows=2: must be at least 3, the rows of a picture of this bundle"
    ):
        settings(run_rows=2).limits(contract)


def test_a_report_says_where_the_track_was_and_not_where_it_is_by_now(
    published: Published, monkeypatch: pytest.MonkeyPatch, alone: Callable[[ImageRequest], FloatArray]
) -> None:
    """The worker thread may be through with the next run before the event loop tells of the last."""
    what = request(12, sampler="dpmpp_2m")
    tell = StepLoop._tell

    def late(loop: StepLoop) -> None:
        time.sleep(0.02)
        tell(loop)

    monkeypatch.setattr(StepLoop, "_tell", late)

    async def work(house: House) -> None:
        reports = [report async for report in house.reports(what, report_every=1)]
        assert [report.step for report in reports] == list(range(1, 13))
        snapshot = Snapshot()
        for report in reports[:-1]:
            snapshot = snapshot.after(report.progress)
            assert len(snapshot.estimates) == report.step
        np.testing.assert_array_equal(reports[-1].latents, alone(what))
        half = Snapshot(snapshot.estimates[:6])
        np.testing.assert_array_equal(await house.latents(what, snapshot=half), alone(what))

    in_house(published, work)


def test_a_snapshot_says_whether_adaptive_guidance_has_dropped_the_other_row(
    published: Published, runs: list[list[int]]
) -> None:
    async def work(house: House) -> None:
        what = request(10, adaptive_guidance=1e-9)
        *reports, _ = [report async for report in house.reports(what, report_every=1)]
        dropped = [report.progress.agreed for report in reports]
        assert dropped == sorted(dropped)
        assert [len(rows) for rows in runs] == [1] * 10
        assert [rows[0] for rows in runs[1:]] == [1 if agreed else 2 for agreed in dropped]
        assert dropped[-1]
        runs.clear()
        snapshot = Snapshot(reports[0].progress.estimates, agreed=True)
        await house.latents(what, snapshot=snapshot)
        assert runs == [[1]] * 9

    in_house(published, work)


def test_a_walk_that_may_stop_replicas_shares_no_run_and_says_what_comes(
    published: Published,
    runs: list[list[int]],
    alone: Callable[[ImageRequest], FloatArray],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    what = request(8)
    monkeypatch.setattr("services.step_loop.RISK_PAUSE_S", 0.001)

    async def work(house: House) -> None:
        mate = asyncio.create_task(house.latents(request(150, seed=9, guidance=1.0)))
        await until(lambda: len(runs) > 3, mate)
        reports = [report async for report in house.reports(what, alone_until=3, admitted=True, report_every=4)]
        begins = [(0, False)]
        apart = [told for step in range(3) for told in ((step, True), (step + 1, False))]
        joined = [(7, False), (8, False)]
        assert [(report.step, report.at_risk) for report in reports] == begins + apart + joined
        np.testing.assert_array_equal(reports[-1].latents, alone(what))
        await mate

    in_house(published, work)
    # the last eight are those of the comparison
    mixed = [rows for rows in runs if 2 in rows][:-8]
    assert mixed[:3] == [[2]] * 3
    assert all(sorted(rows) == [1, 2] for rows in mixed[3:])


def test_walks_kept_apart_take_no_other_users_share_and_are_no_measure(
    published: Published, runs: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.step_loop.RISK_PAUSE_S", 0.001)

    async def work(house: House) -> None:
        loop = house.deployment._loop
        suspects = [
            asyncio.create_task(
                house.latents(request(40, seed=seed), terms=Terms("ann"), admitted=True, alone_until=30)
            )
            for seed in range(10)
        ]
        ben = asyncio.create_task(house.latents(request(20, guidance=1.0), terms=Terms("ben")))
        await until(lambda: len(loop._active) == 11, *suspects, ben)
        assert loop._rate.per_second is None or [1] in runs
        before = len(runs)
        await ben
        # ann's ten have no more turns than ben alone, by cost: ben's twenty rows are worth ten of her pairs
        assert len(runs) - before <= 60
        await asyncio.gather(*suspects)
        assert [rows for rows in runs if len(rows) > 1][:1] != []

    in_house(published, work, queued_pictures=1000, run_pixels=32768)


def test_what_was_admitted_elsewhere_is_not_refused_for_what_waits(published: Published) -> None:
    async def work(house: House) -> None:
        busy = asyncio.create_task(house.latents(request(150, 512)))
        await until(lambda: house.deployment._loop._batcher.admitted == 1, busy)
        with pytest.raises(OverloadedError):
            await house.latents(request(10))
        await house.latents(request(10), admitted=True)
        await house.given_up_by(busy)

    in_house(published, work, queued_pictures=1)


def test_the_queue_knows_the_rows_that_an_interval_saves(published: Published) -> None:
    async def work(house: House) -> int:
        walk = asyncio.create_task(house.latents(request(100, 512, guidance_start=0.9)))
        batcher = house.deployment._loop._batcher
        await until(lambda: batcher.admitted == 1, walk)
        queued = batcher.queued
        await house.given_up_by(walk)
        return queued

    # ninety rows and ten pairs of them, less what has run before it was looked at
    assert 64 * 64 * 100 < in_house(published, work, queued_pictures=1000) <= 64 * 64 * 110


def test_runs_that_answered_nobody_are_no_measure(published: Published) -> None:
    async def work(house: House) -> None:
        await house.latents(request(5))
        loop = house.deployment._loop
        before = loop._rate.per_second
        for _ in range(3):
            walk = asyncio.create_task(house.latents(request(150, 1024)))
            await until(lambda: loop._under_way is not None, walk)
            await house.given_up_by(walk)
            await until(lambda: loop._driver is None or loop._driver.done())
        broken_off = loop._rate.per_second
        assert before is not None
        assert broken_off is not None
        # a run that came to its end before it heard is of a much larger picture, and may count
        assert broken_off == before or loop._batcher.evaluations > 5 + 3

    in_house(published, work)


def test_runs_that_fail_together_but_not_alone_are_counted_and_logged(
    published: Published, monkeypatch: pytest.MonkeyPatch, serve_log: pytest.LogCaptureFixture
) -> None:
    advance = Denoiser.advance

    def tight(stage: Denoiser, tracks: Sequence[Track], interrupt: Interrupt | None = None) -> None:
        if len(tracks) > 1:
            raise RuntimeFault("denoiser: no memory for so many rows")
        advance(stage, tracks, interrupt)

    monkeypatch.setattr(Denoiser, "advance", tight)

    async def work(house: House) -> None:
        tally = house.deployment._loop._metrics = Tally()  # type: ignore[assignment]
        await asyncio.gather(*(house.latents(request(6, seed=seed)) for seed in range(3)))
        assert len(tally.told["split"]) >= 4
        await house.deployment.check_health()

    in_house(published, work)
    assert any("no memory" in message for message in serve_log.messages)


def test_faults_of_its_runs_make_a_version_suspect(published: Published, monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(*_: object) -> None:
        raise RuntimeFault("denoiser: the device is lost")

    async def work(house: House) -> None:
        monkeypatch.setattr(Session, "run", lost)
        for _ in range(3):
            with pytest.raises(ServingError):
                await house.latents(request(2))
        with pytest.raises(ServingError, match="3 runs failed, and so did the probe"):
            await house.deployment.check_health()

    in_house(published, work)


def test_a_fault_of_one_samplers_own_fails_its_run_and_no_other(
    published: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = Track.answer

    def odd(track: Track, prediction: FloatArray) -> None:
        if track.steps == 13 and track.evaluation == 2:
            raise ZeroDivisionError
        answer(track, prediction)

    monkeypatch.setattr(Track, "answer", odd)

    async def work(house: House) -> None:
        with pytest.raises(ServingError):
            await house.latents(request(13))
        await house.latents(request(12))
        await house.deployment.check_health()

    in_house(published, work)


def test_versions_users_and_requests_are_told_apart(published: Published) -> None:
    async def work(house: House) -> None:
        loop = house.deployment._loop
        walks = [
            asyncio.create_task(house.latents(request(150, 256), terms=Terms("ann"), order="one")),
            asyncio.create_task(house.latents(request(150, 256), terms=Terms("ben"), order="two")),
        ]
        await until(lambda: len(loop._active) == 2, *walks)
        tickets = [walk.ticket for walk in loop._active.values()]
        assert {(ticket.tenant, ticket.request) for ticket in tickets} == {("ann", "one"), ("ben", "two")}
        assert len({ticket.signature for ticket in tickets}) == 1
        assert {ticket.signature[0] for ticket in tickets} == {house.pin}  # type: ignore[index]
        await asyncio.gather(*map(house.given_up_by, walks))

    in_house(published, work, queued_pictures=1000)


def test_it_counts_how_long_newcomers_wait_and_whether_they_had_to(published: Published) -> None:
    async def work(house: House) -> None:
        tally = house.deployment._loop._metrics = Tally()  # type: ignore[assignment]
        loop = house.deployment._loop
        first = [asyncio.create_task(house.latents(request(40, seed=seed))) for seed in range(4)]
        await until(lambda: loop._batcher.admitted == 4, *first)
        late = asyncio.create_task(house.latents(request(40, seed=7)))
        await asyncio.gather(*first, late)
        free = [free for _, _, _, free in tally.told["began"]]
        assert free == [True] * 4 + [False]
        assert all(seconds >= 0 and waited >= 0 for _, seconds, waited, _ in tally.told["began"])
        rows = [rows for _, _, rows, _, _ in tally.told["ran"]]
        assert max(rows) == 8
        assert sum(evaluations for _, evaluations, *_ in tally.told["ran"]) == 5 * 40
        # the fifth had no row in the run after its arrival
        assert tally.told["began"][-1][2] >= 0
        assert tally.told["waits"][-1] == (0, 0)
        assert tally.told["idle"] == [()]

    in_house(published, work)


def test_a_fault_of_ours_hangs_not_even_those_that_had_just_ended(
    published: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(house: House) -> None:
        loop = house.deployment._loop
        done = loop._batcher.done

        def breaks_at_the_end(returning: Any) -> None:
            tickets = list(returning)
            if not tickets:
                raise ZeroDivisionError
            done(tickets)

        monkeypatch.setattr(loop._batcher, "done", breaks_at_the_end)
        with pytest.raises(ServingError, match="something went wrong"):
            await house.latents(request(3))

    in_house(published, work)
