"""The mixed load on two systems of one small denoiser, and what follows from one."""

import asyncio
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from benchmarks import mixed_load
from benchmarks.arrivals import Arrival
from benchmarks.effort import LoadEffort
from benchmarks.errors import BenchmarkError
from benchmarks.mixed_figures import MixedLoad, Offered, conclude, starts
from benchmarks.mixed_load import measure_mixed, offer, saturate
from benchmarks.replica import FirstCome, Replica, System, made_up_text
from benchmarks.task import Task
from components.contract import Kind
from components.messages import EncodedText, FloatArray, ImageRequest
from pipeline.denoiser import Denoiser
from pipeline.jobs import denoise_jobs
from runtime.settings import SessionSettings

NOTHING = EncodedText({}, ())


@pytest.fixture(scope="module")
def stage(task: Task) -> Denoiser:
    return Denoiser(task.folders[Kind.DENOISER], SessionSettings(threads=1))


class Sleeper:
    """A system that answers after as many milliseconds as there are steps, and knows how many called at once."""

    def __init__(self) -> None:
        self.here = self.most = 0

    async def draw(self, request: ImageRequest, encoded: EncodedText) -> FloatArray:
        assert encoded is NOTHING
        self.here += 1
        self.most = max(self.most, self.here)
        await asyncio.sleep(request.steps / 1000)
        self.here -= 1
        return np.full((1, 4, 8, 8), request.seed, np.float32)


def test_both_systems_give_the_bytes_of_a_request_alone(task: Task, stage: Denoiser) -> None:
    requests = [replace(task.request, steps=steps, seed=seed) for seed, steps in enumerate((4, 50, 4, 4, 30, 4))]
    encoded = made_up_text(stage.contract, task.request)

    async def draw() -> tuple[list[FloatArray], list[FloatArray]]:
        with FirstCome(stage) as first_come:
            replica = Replica(stage)
            return (
                await asyncio.gather(*(replica.draw(request, encoded) for request in requests)),
                await asyncio.gather(*(first_come.draw(request, encoded) for request in requests)),
            )

    shared, one_by_one = asyncio.run(draw())
    for request, ours, theirs in zip(requests, shared, one_by_one, strict=True):
        [job] = denoise_jobs(request, encoded, stage.contract)
        assert ours.tobytes() == theirs.tobytes() == stage.denoise(job).tobytes()


def test_a_queue_of_whole_pictures_keeps_the_order_and_the_step_loop_does_not(task: Task, stage: Denoiser) -> None:
    encoded = made_up_text(stage.contract, task.request)
    requests = [replace(task.request, steps=steps) for steps in (150, 4)]

    async def order(system: System) -> list[int]:
        ended: list[int] = []

        async def draw(request: ImageRequest) -> None:
            await system.draw(request, encoded)
            ended.append(request.steps)

        await asyncio.gather(*map(draw, requests))
        return ended

    with FirstCome(stage) as first_come:
        assert asyncio.run(order(first_come)) == [150, 4]
    replica = Replica(stage)
    assert asyncio.run(order(replica)) == [4, 150]
    assert replica.tally.runs_waited[True].total() == 2


def test_a_load_is_open_its_requests_come_whatever_was_answered(task: Task) -> None:
    system = Sleeper()
    arrivals = [Arrival(index * 0.01, replace(task.request, steps=4, seed=index)) for index in range(5)]
    arrivals[1] = Arrival(0.01, replace(task.request, steps=200, seed=1))
    offered, latents = asyncio.run(offer(system, arrivals, NOTHING))
    assert len(offered.short_ms) == 4
    assert min(offered.short_ms) >= 4
    assert [latency >= 200 for latency in offered.long_ms] == [True]
    assert 0.21 <= offered.seconds < 5
    assert [float(one[0, 0, 0, 0]) for one in latents] == [0, 1, 2, 3, 4]
    assert system.most >= 2


def test_a_saturated_system_always_has_callers_waiting(task: Task) -> None:
    system = Sleeper()
    requests = [replace(task.request, steps=1 + index % 3, seed=index) for index in range(50)]
    seconds, latents = asyncio.run(saturate(system, requests, NOTHING))
    assert system.most == 16
    assert seconds > 0.002
    assert [float(one[0, 0, 0, 0]) for one in latents] == list(range(50))


def test_figures_follow_from_the_rounds(mixed: MixedLoad) -> None:
    ours, theirs = mixed.step_loop, mixed.first_come
    assert (ours.capacity, theirs.capacity) == (4.0, 5.0)
    assert (ours.pictures_per_second, theirs.pictures_per_second) == (2.0, 1.6)
    assert (ours.short_ms.count, ours.short_ms.p50, theirs.short_ms.p99) == (3, 20.0, 300.0)
    assert mixed.short_p99_ratio == pytest.approx(0.1)
    assert mixed.capacity_ratio == pytest.approx(1.25)
    assert mixed.throughput_ratio == pytest.approx(0.8)


def test_rounds_are_taken_together() -> None:
    first = Offered(seconds=1.0, short_ms=(1.0, 2.0), long_ms=())
    second = Offered(seconds=3.0, short_ms=(9.0,), long_ms=(5.0,))
    found = conclude(
        1.0,
        {"step_loop": [1.0], "first_come": [1.0]},
        {"step_loop": [first, second], "first_come": [first, first]},
        {True: {}, False: {}},
    )
    assert found.step_loop.pictures_per_second == 1.0
    assert found.step_loop.short_ms.p99 == 9.0
    assert found.step_loop.long_ms is not None
    assert found.first_come.long_ms is None


def test_a_start_is_late_if_a_run_began_before_it_although_a_row_was_free() -> None:
    found = starts({True: Counter({2: 1, 0: 97, 1: 2}), False: Counter({7: 50})})
    assert found.free_row == {0: 97, 1: 2, 2: 1}
    assert found.no_free_row == {7: 50}
    assert found.late == pytest.approx(0.03)
    assert starts({True: Counter(), False: Counter({0: 4})}).late == 0


def test_the_whole_measurement_on_a_small_denoiser(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mixed_load, "_SATURATED_ROUNDS", 2)
    said: list[str] = []
    effort = LoadEffort(shorts=21, load_rounds=2, saturating=20)
    found = measure_mixed(task.folders[Kind.DENOISER], task.request, effort, said.append)
    assert found.offered_per_second == pytest.approx(0.8 * min(found.step_loop.capacity, found.first_come.capacity))
    # eleven short ones in each of the two rounds
    assert found.step_loop.short_ms.count == found.first_come.short_ms.count == 22
    for figures in (found.step_loop, found.first_come):
        assert len(figures.capacities) == len(figures.rounds) == 2
        assert figures.short_ms.p50 <= figures.short_ms.p99 <= figures.short_ms.most
    counted = [*found.starts.free_row.values(), *found.starts.no_free_row.values()]
    assert sum(counted) == sum(offered.pictures for offered in found.step_loop.rounds)
    assert len(said) == 8


def test_systems_that_differ_cannot_be_compared(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    denoise = Denoiser.denoise
    monkeypatch.setattr(Denoiser, "denoise", lambda stage, job: denoise(stage, job) + np.float32(1e-6))
    with pytest.raises(BenchmarkError, match="different latents"):
        measure_mixed(task.folders[Kind.DENOISER], task.request, LoadEffort(4, 1, 4), lambda _: None)
