"""The simulation held against real runs: the same requests at the same moments, served and simulated."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.errors import BenchmarkError
from benchmarks.machine import Machine, describe_machine
from benchmarks.open_loop import closed_loop, offer
from benchmarks.percentiles import percentile
from benchmarks.plan.calibration import ONE_THREAD, Calibration
from benchmarks.plan.demand import Arrival, Asked, Size, poisson
from benchmarks.plan.simulation import DEPLOYMENTS, Scene, Simulation
from benchmarks.plan.times import StageTimes
from benchmarks.server import serving
from services.client.blocking import Client

_CLIENTS = 12
_CAPACITY_S = 20.0
_SEED = 20261128
MOST_APART = 1.15
_TRIES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What came of a load, served or simulated: pictures a second until the last answer, and the seconds of each."""

    per_second: float
    p50_s: float
    p95_s: float
    refused: int
    seconds: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """One load: requests a second, its share of the capacity, what came of it, and how the machine changed meanwhile.

    `drift` is the larger of two calibrations over the smaller, `tries` how often it was tried.
    """

    load: float
    offered: float
    served: Found
    simulated: Found
    drift: float
    tries: int

    @property
    def throughput(self) -> float:
        """Simulated over served."""
        return self.simulated.per_second / self.served.per_second

    @property
    def p95(self) -> float:
        """Simulated over served."""
        return self.simulated.p95_s / self.served.p95_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """All of it: the machine, the capacity in pictures a second, each load, and the times of the last calibration."""

    machine: Machine
    capacity: float
    loads: tuple[Checked, ...]
    times: StageTimes


def check(
    bundle: Path, mix: tuple[Asked, ...], loads: Sequence[float], seconds: float, say: Callable[[str], None]
) -> Check:
    """Serve a bundle with one thread for each stage, and hold each load against its simulation on as many cores.

    The machine is measured right before and right after each load, and simulated by the mean of both; where they
    differ by more than 15 percent the load is tried again.

    Raises:
        BenchmarkError: the server did not start or draw, or the machine never was the same before and after.
    """
    machine = describe_machine()
    with serving(bundle, ONE_THREAD) as server, Client(server.url) as client:
        calibration = Calibration(client, bundle)
        say("how much is served at most")
        bodies = [_body(each.asked, f"capacity {number}") for number, each in enumerate(poisson(mix, 100, 100, _SEED))]
        capacity = asyncio.run(closed_loop(server.url, bodies, _CLIENTS, _CAPACITY_S))
        if not capacity:
            raise BenchmarkError(f"nothing was drawn in {_CAPACITY_S:g} s")
        found: list[Checked] = []
        for load in loads:
            arrivals = tuple(poisson(mix, capacity * load, seconds, _SEED))
            sizes = tuple(sorted({each.size for each in mix}, key=str))
            one = _Load(load, capacity * load, sizes, arrivals, machine.cores)
            checked, times = one.check(server.url, calibration, say)
            found.append(checked)
        return Check(machine=machine, capacity=capacity, loads=tuple(found), times=times)


@dataclass(frozen=True, slots=True)
class _Load:
    share: float
    offered: float
    sizes: tuple[Size, ...]
    arrivals: tuple[Arrival, ...]
    cores: int

    def check(self, url: str, calibration: Calibration, say: Callable[[str], None]) -> tuple[Checked, StageTimes]:
        before = calibration.times(self.sizes, say)
        for tries in range(1, _TRIES + 1):
            say(f"{self.offered:.2f} requests a second, {self.share:g} of the capacity")
            served = self._serve(url, tries)
            after = calibration.times(self.sizes, say)
            drift = before.drift(after)
            times = before.mean(after)
            if drift <= MOST_APART:
                simulated = self.simulate(times)
                checked = Checked(
                    load=self.share, offered=self.offered, served=served, simulated=simulated, drift=drift, tries=tries
                )
                return checked, times
            before = after
        raise BenchmarkError(f"the machine changed by more than {MOST_APART - 1:.0%} within a load, {_TRIES} times")

    def simulate(self, times: StageTimes) -> Found:
        outcome = Simulation(times, Scene(dict.fromkeys(DEPLOYMENTS, 1), cores=self.cores)).run(self.arrivals)
        seconds = [each.seconds for each in outcome.answers]
        last = max(each.at_s + each.seconds for each in outcome.answers)
        return _found(seconds, last - self.arrivals[0].at_s, len(outcome.refused))

    def _serve(self, url: str, tries: int) -> Found:
        bodies = [_body(each.asked, f"load {self.share} {tries} {number}") for number, each in enumerate(self.arrivals)]
        answers = asyncio.run(offer(url, bodies, [each.at_s for each in self.arrivals]))
        drawn = [each for each in answers if each.error is None]
        if not drawn:
            raise BenchmarkError(f"nothing was drawn: {answers[0].error}")
        last = max(each.answered_s for each in drawn) - min(each.due_s for each in drawn)
        return _found([each.ms / 1000 for each in drawn], last, len(answers) - len(drawn))


def _body(asked: Asked, prompt: str) -> dict[str, Any]:
    return {"prompt": prompt, "seed": 1, "steps": asked.steps, "size": str(asked.size)}


def _found(seconds: Sequence[float], lasted_s: float, refused: int) -> Found:
    return Found(
        per_second=len(seconds) / lasted_s,
        p50_s=percentile(seconds, 50),
        p95_s=percentile(seconds, 95),
        refused=refused,
        seconds=tuple(sorted(seconds)),
    )
