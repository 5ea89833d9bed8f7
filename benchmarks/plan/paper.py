"""A large system on paper: what load does to it, and what a burst costs."""

import math
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from benchmarks.percentiles import percentile
from benchmarks.plan.advice import core_seconds
from benchmarks.plan.demand import Asked, burst, poisson
from benchmarks.plan.simulation import (
    DENOISER,
    DEPLOYMENTS,
    GRAPH,
    INGRESS,
    TEXT_ENCODER,
    VAE_DECODER,
    Outcome,
    Scaled,
    Scene,
    Simulation,
)
from benchmarks.plan.times import StageTimes
from services.deployment_args import ScaledArgs
from services.settings import ChainArgs, IngressArgs
from services.stage_args import DenoiserArgs, TextEncoderArgs, VaeDecoderArgs

LOADS = (0.3, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 1.0)
# what all but the denoisers have left when these have nothing left
_OTHERS_BUSY = 0.7
_WARM_S, _SHOWN_S = 10.0, 20.0
_SEED = 3
BURST, BURST_LOAD = 8.0, 0.7
_BINS_S = 5.0
_ARGS: Mapping[str, type[ScaledArgs]] = {
    INGRESS: IngressArgs,
    GRAPH: ChainArgs,
    TEXT_ENCODER: TextEncoderArgs,
    DENOISER: DenoiserArgs,
    VAE_DECODER: VaeDecoderArgs,
}
# Pictures that take a fraction of a second must not wait for five before more denoisers start; and ingress and graph
# have all requests that others work on.
_TARGETS: Mapping[str, Mapping[str, float]] = {
    DENOISER: {"work_target_s": 1.0},
    INGRESS: {"ongoing_target": 20.0},
    GRAPH: {"ongoing_target": 20.0},
}
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadPoint:
    """One load, as a share of what the denoisers can do with full runs; seconds of pictures, refusals in all."""

    load: float
    per_second: float
    p50_s: float
    p99_s: float
    refused: float
    utilisation: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class BurstWay:
    """One way to meet a burst: moments with requests and pictures' p99 by when they were asked for, and what it cost.

    `p99_s` has None where nothing was answered; `denoisers` are (second, how many from then on); `paid` is the time of
    all denoisers over that of those which the load before needs.
    """

    name: str
    moments: tuple[float, ...]
    per_second: tuple[float, ...]
    p99_s: tuple[float | None, ...]
    refused: float
    burst_p50_s: float
    burst_p99_s: float
    denoisers: tuple[tuple[float, int], ...]
    paid: float


@dataclass(frozen=True, slots=True)
class _Way:
    """How a burst is met: who always has as many replicas as it needs, and seconds that others' new ones need."""

    name: str
    always: tuple[str, ...] = ()
    start_s: float | None = None


_WAYS = (
    _Way("never scaled"),
    _Way("everything scaled, new replicas after 5 s", start_s=5.0),
    _Way("ingress and graph always there, the rest scaled after 5 s", (INGRESS, GRAPH), 5.0),
    _Way("the same, after 120 s: nodes must start", (INGRESS, GRAPH), 120.0),
    _Way("always as many as the burst needs", DEPLOYMENTS),
)


@dataclass(frozen=True, slots=True)
class BurstPlan:
    """When a burst is: seconds until it begins, for which it lasts, and until nothing more is looked at."""

    begins_s: float = 60.0
    lasts_s: float = 240.0
    seconds: float = 900.0

    @property
    def within(self) -> tuple[float, float]:
        """Its first and last second."""
        return self.begins_s, self.begins_s + self.lasts_s


def replicas_for(times: StageTimes, mix: tuple[Asked, ...], denoisers: int) -> dict[str, int]:
    """So many denoisers, and as many of the others as are not what limits them."""
    per_second = capacity(times, mix, denoisers)
    needed = {name: math.ceil(per_second * each / _OTHERS_BUSY) for name, each in core_seconds(times, mix).items()}
    return {name: max(1, count) for name, count in needed.items()} | {DENOISER: denoisers}


def capacity(times: StageTimes, mix: tuple[Asked, ...], denoisers: int) -> float:
    """Pictures a second of so many denoisers, where each run is full."""
    return denoisers / core_seconds(times, mix)[DENOISER]


def loads(
    times: StageTimes, mix: tuple[Asked, ...], denoisers: int, say: Callable[[str], None]
) -> tuple[LoadPoint, ...]:
    """What so many denoisers do under one load after the other, each simulated for half a minute."""
    say(f"{denoisers} denoisers under {len(LOADS)} loads")
    return _each(_load_point, [(times, mix, denoisers, load) for load in LOADS])


def bursts(
    times: StageTimes, mix: tuple[Asked, ...], denoisers: int, plan: BurstPlan, say: Callable[[str], None]
) -> tuple[BurstWay, ...]:
    """A load that becomes eight times as large for a time, met in several ways.

    At its height so many denoisers would be as busy as `BURST_LOAD` says.
    """
    say(f"a burst that {denoisers} denoisers are for, met in several ways")
    few = max(1, math.ceil(denoisers / BURST))
    return _each(_burst_way, [(times, mix, (few, denoisers), plan, way) for way in _WAYS])


def _each(work: Callable[..., Result], given: Iterable[tuple[object, ...]]) -> tuple[Result, ...]:
    with ProcessPoolExecutor() as pool:
        return tuple(pool.map(work, *zip(*given, strict=True)))


def _load_point(times: StageTimes, mix: tuple[Asked, ...], denoisers: int, load: float) -> LoadPoint:
    per_second = capacity(times, mix, denoisers) * load
    arrivals = poisson(mix, per_second, _WARM_S + _SHOWN_S, _SEED)
    outcome = Simulation(times, Scene(replicas_for(times, mix, denoisers))).run(arrivals)
    shown = [each.seconds for each in outcome.answers if each.at_s >= _WARM_S]
    return LoadPoint(
        load=load,
        per_second=per_second,
        p50_s=percentile(shown, 50),
        p99_s=percentile(shown, 99),
        refused=outcome.refused_share,
        utilisation={name: each.utilisation for name, each in outcome.stations.items()},
    )


def _burst_way(
    times: StageTimes, mix: tuple[Asked, ...], bounds: tuple[int, int], plan: BurstPlan, way: _Way
) -> BurstWay:
    few, many = bounds
    base = capacity(times, mix, many) * BURST_LOAD / BURST
    fewest, most = replicas_for(times, mix, few), replicas_for(times, mix, many)
    replicas = {name: most[name] if name in way.always else fewest[name] for name in DEPLOYMENTS}
    scaled: dict[str, Scaled] = {}
    if way.start_s is not None:
        scaled = {
            name: _scaled(name, fewest[name], most[name], way.start_s) for name in DEPLOYMENTS if name not in way.always
        }
    arrivals = burst(mix, base, BURST, plan.within, plan.seconds, _SEED)
    outcome = Simulation(times, Scene(replicas, scaled)).run(arrivals)
    begins, ends = plan.within
    burst_s = [each.seconds for each in outcome.answers if begins <= each.at_s < ends]
    moments, per_second, p99_s = _over_time(outcome, plan.seconds)
    return BurstWay(
        name=way.name,
        moments=moments,
        per_second=per_second,
        p99_s=p99_s,
        refused=outcome.refused_share,
        burst_p50_s=percentile(burst_s, 50),
        burst_p99_s=percentile(burst_s, 99),
        denoisers=outcome.stations[DENOISER].history,
        paid=outcome.stations[DENOISER].paid_s / (few * outcome.ended_s),
    )


def _scaled(name: str, fewest: int, most: int, start_s: float) -> Scaled:
    args = _ARGS[name](replicas=fewest, max_replicas=most, **_TARGETS.get(name, {}))
    return Scaled(args.serve_options()["autoscaling_config"], start_s)


def _over_time(
    outcome: Outcome, seconds: float
) -> tuple[tuple[float, ...], tuple[float, ...], tuple[float | None, ...]]:
    bins = math.ceil(seconds / _BINS_S)
    found: list[list[float]] = [[] for _ in range(bins)]
    asked = [0] * bins
    for answer in outcome.answers:
        at = min(bins - 1, int(answer.at_s / _BINS_S))
        found[at].append(answer.seconds)
        asked[at] += 1
    for moment in outcome.refused:
        asked[min(bins - 1, int(moment / _BINS_S))] += 1
    return (
        tuple(number * _BINS_S for number in range(bins)),
        tuple(count / _BINS_S for count in asked),
        tuple(percentile(each, 99) if each else None for each in found),
    )
