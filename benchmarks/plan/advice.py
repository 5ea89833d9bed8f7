"""How many replicas of each deployment hold a p95: as few as cost least, found by simulating."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from benchmarks.errors import BenchmarkError
from benchmarks.percentiles import percentile
from benchmarks.plan.demand import Asked, poisson
from benchmarks.plan.simulation import (
    DENOISER,
    DEPLOYMENTS,
    GRAPH,
    INGRESS,
    TEXT_ENCODER,
    VAE_DECODER,
    Scene,
    Simulation,
)
from benchmarks.plan.times import SizeTimes, StageTimes
from services.denoiser import GUIDED_ROWS

# a deployment as busy as that is where the search begins
_BUSY = 0.9
# of the simulated pictures the first are left out: nobody waits before them
_SHOWN, _WARM = 2000, 0.25
_LEAST_S = 40.0
_SEED = 1
_MOST_REPLICAS = 100_000
_ROUNDS = 300
# in one move, as a share of what is there
_MOVE = 0.06


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What so many replicas of each deployment come to: seconds of pictures, how busy each deployment is."""

    replicas: Mapping[str, int]
    p50_s: float
    p95_s: float
    p99_s: float
    refused: int
    utilisation: Mapping[str, float]
    excess_s: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """What is advised for a rate, and its cost an hour and for 1,000 pictures, at a price for each replica's hour."""

    per_second: float
    p95_s: float
    held: Held
    hourly: float
    thousand: float


def advise(
    times: StageTimes,
    mix: tuple[Asked, ...],
    per_second: float,
    p95_s: float,
    prices: Mapping[str, float],
    say: Callable[[str], None],
) -> Advice:
    """The cheapest replicas found that answer `per_second` requests of a mix with none refused and that p95.

    Every replica is taken to have as many cores of its own as it had where the times were measured.

    Raises:
        BenchmarkError: not even one picture alone is so fast.
    """
    fastest = _alone(times, mix)
    if fastest > p95_s:
        raise BenchmarkError(f"--p95 {p95_s:g}s: cannot be met: with nothing else on it is {fastest:.3g} s")
    search = _Search(times, mix, per_second, p95_s, prices, say)
    held = search.shrunk(search.grown(_first(times, mix, per_second)))
    hourly = sum(count * prices[name] for name, count in held.replicas.items())
    return Advice(
        per_second=per_second, p95_s=p95_s, held=held, hourly=hourly, thousand=hourly / (per_second * 3600) * 1000
    )


def core_seconds(times: StageTimes, mix: tuple[Asked, ...]) -> dict[str, float]:
    """Seconds of each deployment's work on one picture of a mix in the mean, where runs are full."""
    return _mean_seconds(times, mix, lambda own: own.run(max(own.run_s)) * GUIDED_ROWS / max(own.run_s))


def _mean_seconds(
    times: StageTimes, mix: tuple[Asked, ...], evaluation_s: Callable[[SizeTimes], float]
) -> dict[str, float]:
    """Seconds of each deployment for one picture of a mix in the mean, by what one evaluation of it takes."""
    shares = sum(each.share for each in mix)
    found = dict.fromkeys(DEPLOYMENTS, 0.0)
    for asked in mix:
        own, part = times.of(asked), asked.share / shares
        found[INGRESS] += part * own.ingress_s
        found[GRAPH] += part * own.graph_s
        found[TEXT_ENCODER] += part * own.text_encoder_s
        found[DENOISER] += part * asked.steps * evaluation_s(own)
        found[VAE_DECODER] += part * own.vae_decoder_s
    return found


def _first(times: StageTimes, mix: tuple[Asked, ...], per_second: float) -> dict[str, int]:
    return {name: max(1, math.ceil(per_second * seconds / _BUSY)) for name, seconds in core_seconds(times, mix).items()}


def _alone(times: StageTimes, mix: tuple[Asked, ...]) -> float:
    """The least p95 of a mix: that of pictures which wait for nothing."""
    share, shares = 0.0, sum(each.share for each in mix)
    for asked in sorted(mix, key=times.alone_s):
        share += asked.share
        if share >= 0.95 * shares:
            break
    return times.alone_s(asked)


@dataclass(slots=True)
class _Search:
    times: StageTimes
    mix: tuple[Asked, ...]
    per_second: float
    p95_s: float
    prices: Mapping[str, float]
    say: Callable[[str], None]
    _work_s: Mapping[str, float] = field(init=False)
    _alone_s: Mapping[str, float] = field(init=False)

    def __post_init__(self) -> None:
        self._work_s = core_seconds(self.times, self.mix)
        alone = _mean_seconds(self.times, self.mix, lambda own: own.run(GUIDED_ROWS))
        # these two are passed twice, and have half of their work each time
        self._alone_s = alone | {name: alone[name] / 2 for name in (INGRESS, GRAPH)}

    def grown(self, replicas: dict[str, int]) -> Held:
        """Give more to whoever gains most by it for its price, until the p95 holds."""
        for _ in range(_ROUNDS):
            held = self._simulate(replicas)
            if self._holds(held):
                return held
            # whoever is turned away waits nowhere, and the ingress is who turns away first
            refusing = {INGRESS} if held.refused else set()
            dearest = max(self.prices.values()) or 1.0
            gain = {each: held.excess_s[each] / max(self.prices[each], dearest / 100) for each in DEPLOYMENTS}
            for name in refusing | {max(gain, key=gain.__getitem__)}:
                replicas = replicas | {name: replicas[name] + _move(replicas[name])}
            if max(replicas.values()) > _MOST_REPLICAS:
                break
        raise BenchmarkError(f"--p95 {self.p95_s:g}s: not met by {replicas}")

    def shrunk(self, held: Held) -> Held:
        """Take from each what it can spare, the dearest first."""
        for name in sorted(DEPLOYMENTS, key=lambda each: -self.prices[each]):
            step = _move(held.replicas[name])
            while step and (count := held.replicas[name]) > 1:
                fewer = self._simulate({**held.replicas, name: max(1, count - step)})
                if self._holds(fewer):
                    held = fewer
                else:
                    step //= 2
        return held

    def _holds(self, held: Held) -> bool:
        # in a short time even what has too little to do its work may look well
        stable = all(self.per_second * self._work_s[name] < count for name, count in held.replicas.items())
        return stable and held.p95_s <= self.p95_s and not held.refused

    def _simulate(self, replicas: Mapping[str, int]) -> Held:
        self.say(", ".join(f"{count} {name}" for name, count in replicas.items()))
        seconds = max(_LEAST_S, _SHOWN / self.per_second, 10 * self.p95_s) / (1 - _WARM)
        load = poisson(self.mix, self.per_second, seconds, _SEED)
        outcome = Simulation(self.times, Scene(replicas)).run(load)
        shown = [each.seconds for each in outcome.answers if each.at_s >= _WARM * seconds]
        return Held(
            replicas=dict(replicas),
            p50_s=percentile(shown, 50),
            p95_s=percentile(shown, 95),
            p99_s=percentile(shown, 99),
            refused=len(outcome.refused),
            utilisation={name: each.utilisation for name, each in outcome.stations.items()},
            excess_s={name: max(0.0, each.stayed_s - self._alone_s[name]) for name, each in outcome.stations.items()},
        )


def _move(count: int) -> int:
    return max(1, int(count * _MOVE))
