"""The bundle of small networks that serving is tested with, and measurements made up of round numbers."""

from collections import Counter
from pathlib import Path

import pytest

from benchmarks.measurement import Measurement, ServedTimes
from benchmarks.memory import summarise as summarise_memory
from benchmarks.mixed_figures import MixedLoad, Offered, conclude
from benchmarks.outside_figures import Outside, sample_of, summarise
from benchmarks.processes import ProcessMemory
from benchmarks.served import Load
from benchmarks.stopwatch import StageTimes
from benchmarks.task import Task, read_task
from benchmarks.timed_runs import RunSpan
from tests.services.conftest import toy_bundle

__all__ = ["toy_bundle"]

MB = 1_000_000


@pytest.fixture(scope="session")
def task(toy_bundle: Path) -> Task:
    return read_task(toy_bundle, steps=3)


def times(whole_ms: float) -> StageTimes:
    return StageTimes(text_encoder_ms=1, step_ms=(2, 4), denoiser_ms=7, vae_decoder_ms=2, whole_ms=whole_ms)


def served_times(whole_ms: float) -> ServedTimes:
    return ServedTimes(whole_ms=whole_ms, graph_ms=40, text_encoder_ms=2, denoiser_ms=8, vae_decoder_ms=3)


def process(pid: int, command: str, pss_mb: int) -> ProcessMemory:
    return ProcessMemory(pid, command, pss=pss_mb * MB, rss=2 * pss_mb * MB, peak_rss=3 * pss_mb * MB)


@pytest.fixture
def measured() -> Measurement:
    """Three rounds, the last on a machine half as fast: its ratios are those of the others."""
    sample = (process(11, "ray::ServeReplica:default:denoiser", 700), process(12, "ray::ServeController", 100))
    return Measurement(
        bare=(times(10), times(10), times(20)),
        in_process=(times(11), times(12), times(22)),
        served=(served_times(50), served_times(60), served_times(100)),
        ready_s=20.0,
        first_picture_s=20.5,
        load=Load(at_once=2, seconds=2.0, pictures_per_second=2.0, whole_ms=(900.0, 1000.0, 1100.0, 1000.0)),
        memory=summarise_memory([sample]),
        own_memory=process(1, "python -m benchmarks", 150),
    )


@pytest.fixture
def outside() -> tuple[Outside, ...]:
    """A geometry that misses its bar, and one that keeps it."""
    runs = [RunSpan(1.000, 1.010), RunSpan(1.011, 1.021)]
    return (
        summarise("toy", 1, [sample_of(22.0, runs)], 0.08),
        summarise("SD 1.5 at most", 1, [sample_of(20.2, runs)], 0.02),
    )


@pytest.fixture
def mixed() -> MixedLoad:
    """The step loop has a tenth of the latency, more throughput under the load and less capacity."""
    return conclude(
        4.0,
        {"step_loop": [3.0, 4.0, 5.0], "first_come": [5.0, 5.0, 6.0]},
        {
            "step_loop": [Offered(seconds=2.0, short_ms=(10.0, 20.0, 30.0), long_ms=(500.0,))],
            "first_come": [Offered(seconds=2.5, short_ms=(100.0, 200.0, 300.0), long_ms=(300.0,))],
        },
        {True: Counter({1: 1, 0: 3}), False: Counter({5: 2})},
    )
