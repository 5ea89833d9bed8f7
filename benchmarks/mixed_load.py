"""Short and long requests mixed: the replica's shared runs beside a first-come queue of whole pictures."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.arrivals import SHORT_STEPS, Arrival, mixture, poisson
from benchmarks.effort import LoadEffort
from benchmarks.errors import BenchmarkError
from benchmarks.mixed_figures import MixedLoad, Offered, conclude
from benchmarks.replica import FirstCome, Replica, System, made_up_text
from components.folder import ComponentFolder
from components.messages import EncodedText, FloatArray, ImageRequest
from pipeline.denoiser import Denoiser
from services.stage_args import DenoiserArgs

# of the lower of the two capacities
_LOAD = 0.8
# callers of a saturated system: rows for two full runs wait at any time
_AT_ONCE = 16
_SATURATED_ROUNDS = 3
_WARM_UPS = 2
# apart from the seeds of the rounds
_CLOSED_SEED = 1000

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, eq=False)
class _Bench:
    """The two systems on one denoiser, by name, and what is asked of both."""

    systems: Mapping[str, System]
    request: ImageRequest
    encoded: EncodedText
    say: Say


def measure_mixed(folder: ComponentFolder, request: ImageRequest, effort: LoadEffort, say: Say) -> MixedLoad:
    """Measure both systems' capacity, then offer both the same load, in turn; `say` is told what comes next.

    Each round of the load begins with nobody there and ends with the last answer, so that what disturbs the machine
    for a while disturbs both.

    Raises:
        BenchmarkError: the two gave different latents.
        ComponentError: the component is no denoiser, or one that cannot be walked.
        RuntimeFault: a session could not be opened or run.
        ServingError: a run failed.
    """
    stage = Denoiser(folder, DenoiserArgs().session)
    return asyncio.run(_measure(stage, request, effort, say))


async def _measure(stage: Denoiser, request: ImageRequest, effort: LoadEffort, say: Say) -> MixedLoad:
    replica = Replica(stage)
    with FirstCome(stage) as first_come:
        systems: dict[str, System] = {"step_loop": replica, "first_come": first_come}
        bench = _Bench(systems, request, made_up_text(stage.contract, request), say)
        for system in systems.values():
            for _ in range(_WARM_UPS):
                await system.draw(request, bench.encoded)
        capacities = await _capacities(bench, effort.saturating)
        per_second = _LOAD * min(float(np.median(each)) for each in capacities.values())
        for counted in replica.tally.runs_waited.values():
            counted.clear()
        offered = await _offered(bench, effort, per_second)
    return conclude(per_second, capacities, offered, replica.tally.runs_waited)


async def _capacities(bench: _Bench, pictures: int) -> dict[str, tuple[float, ...]]:
    """Pictures per second of each system, round by round, when as many callers wait as it can use."""
    found: dict[str, list[float]] = {name: [] for name in bench.systems}
    for number in range(_SATURATED_ROUNDS):
        source = mixture(bench.request, _CLOSED_SEED + number)
        requests = [next(source) for _ in range(pictures)]
        drawn = []
        for name, system in bench.systems.items():
            bench.say(f"capacity, round {number + 1} of {_SATURATED_ROUNDS}: {name}")
            seconds, latents = await saturate(system, requests, bench.encoded)
            found[name].append(pictures / seconds)
            drawn.append(latents)
        _require_equal(drawn)
    return {name: tuple(each) for name, each in found.items()}


async def _offered(bench: _Bench, effort: LoadEffort, per_second: float) -> dict[str, tuple[Offered, ...]]:
    found: dict[str, list[Offered]] = {name: [] for name in bench.systems}
    shorts = -(-effort.shorts // effort.load_rounds)
    for number in range(effort.load_rounds):
        arrivals = poisson(bench.request, per_second, shorts, seed=number)
        drawn = []
        for name, system in bench.systems.items():
            bench.say(
                f"mixed load, round {number + 1} of {effort.load_rounds}: {name}, {arrivals[-1].at_s:.0f} seconds"
            )
            offered, latents = await offer(system, arrivals, bench.encoded)
            found[name].append(offered)
            drawn.append(latents)
        _require_equal(drawn)
    return {name: tuple(each) for name, each in found.items()}


async def saturate(
    system: System, requests: Sequence[ImageRequest], encoded: EncodedText
) -> tuple[float, list[FloatArray]]:
    """Seconds that a system takes for all of `requests`, of which some are always waiting, and their latents."""
    drawn: dict[int, FloatArray] = {}
    left = enumerate(requests)

    async def call() -> None:
        for index, request in left:
            drawn[index] = await system.draw(request, encoded)

    started = time.perf_counter()
    await asyncio.gather(*(call() for _ in range(_AT_ONCE)))
    return time.perf_counter() - started, [drawn[index] for index in range(len(requests))]


async def offer(system: System, arrivals: Sequence[Arrival], encoded: EncodedText) -> tuple[Offered, list[FloatArray]]:
    """Send each request at its moment, whatever has been answered by then: latencies count from these moments."""
    started = time.perf_counter()

    async def call(arrival: Arrival) -> tuple[float, FloatArray]:
        await asyncio.sleep(started + arrival.at_s - time.perf_counter())
        latents = await system.draw(arrival.request, encoded)
        return (time.perf_counter() - started - arrival.at_s) * 1000, latents

    answers = await asyncio.gather(*map(call, arrivals))
    seconds = time.perf_counter() - started
    by_length: dict[bool, list[float]] = {True: [], False: []}
    for arrival, (latency_ms, _) in zip(arrivals, answers, strict=True):
        by_length[arrival.request.steps == SHORT_STEPS].append(latency_ms)
    offered = Offered(seconds=seconds, short_ms=tuple(by_length[True]), long_ms=tuple(by_length[False]))
    return offered, [latents for _, latents in answers]


def _require_equal(drawn: Sequence[Sequence[FloatArray]]) -> None:
    first, *others = drawn
    for other in others:
        if not all(np.array_equal(one, another) for one, another in zip(first, other, strict=True)):
            raise BenchmarkError("the two systems gave different latents: their times cannot be compared")
