"""What the figures are held to."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.coldstart import Copies
from benchmarks.mixed_figures import MixedLoad
from benchmarks.outside_figures import Outside
from benchmarks.ratios import Comparison
from benchmarks.scaling import NewReplica
from benchmarks.swap_figures import SwapFigures

TEXT_TO_IMAGE_RATIO = 1.05
SERVED_EXTRA_MS = 60.0
COUNTED_PSS_MB = 2500.0
OUTSIDE_SHARE = 0.08
OUTSIDE_SHARE_SD15 = 0.02
SHORT_P99_RATIO = 0.25
THROUGHPUT_RATIO = 1.0
LATE_STARTS_PERCENT = 1.0
OPENING_RATIO = 0.2
SECOND_REPLICA_MB = 300.0
RUN_TIME_RATIO = 1.03
NEW_REPLICA_S = 8.0
SWAP_S = 2.0
SWAP_P99_RATIO = 1.5
# the bars were set for a machine of this many
CORES = 2
_BYTES_OF_MB = 1e6


@dataclass(frozen=True, slots=True)
class Bar:
    """A figure and the most that it may be; `missed_by` is 0 where the bar is met."""

    name: str
    unit: str
    value: float
    limit: float
    met: bool
    missed_by: float


def judge(name: str, value: float, limit: float, *, unit: str) -> Bar:
    """Hold a value to its limit, which itself still meets it."""
    return Bar(name, unit, value, limit, value <= limit, max(0.0, value - limit))


def judge_paths(
    in_process_over_bare: Comparison, served_minus_bare_ms: Comparison, counted_pss: int
) -> tuple[Bar, ...]:
    """Hold the medians and the peak memory, in bytes, to the bars of this project."""
    return (
        judge("TextToImage / bare", in_process_over_bare.median, TEXT_TO_IMAGE_RATIO, unit=""),
        judge("served - bare", served_minus_bare_ms.median, SERVED_EXTRA_MS, unit="ms"),
        judge("replicas, graph, ingress and proxy", counted_pss / _BYTES_OF_MB, COUNTED_PSS_MB, unit="MB"),
    )


def judge_outside(found: Sequence[Outside]) -> tuple[Bar, ...]:
    """Hold the work outside `session.run` to its share, each geometry by the number of walks where it is the most."""
    shares: dict[str, Outside] = {}
    for one in found:
        if one.geometry not in shares or one.share > shares[one.geometry].share:
            shares[one.geometry] = one
    return tuple(
        judge(f"outside session.run, {worst.geometry}", 100 * worst.share, 100 * worst.limit, unit="%")
        for worst in shares.values()
    )


def judge_mixed(load: MixedLoad) -> tuple[Bar, ...]:
    """Hold a mixed load to the first-come queue's, and the starts of its walks to the run under way."""
    return (
        judge("p99 of short requests, step loop / first come", load.short_p99_ratio, SHORT_P99_RATIO, unit=""),
        judge("throughput, first come / step loop", load.throughput_ratio, THROUGHPUT_RATIO, unit=""),
        judge("capacity, first come / step loop", load.capacity_ratio, THROUGHPUT_RATIO, unit=""),
        judge("starts with a free row that let a run pass", 100 * load.starts.late, LATE_STARTS_PERCENT, unit="%"),
    )


def judge_copies(copies: Copies) -> tuple[Bar, ...]:
    """Hold compiled copies to what they are to gain."""
    return (
        judge("session opened, compiled / exported", copies.opening.median, OPENING_RATIO, unit=""),
        judge(
            "private memory of a second replica",
            copies.second.private_warm / _BYTES_OF_MB,
            SECOND_REPLICA_MB,
            unit="MB",
        ),
        judge("run time, compiled / exported", copies.running.median, RUN_TIME_RATIO, unit=""),
    )


def judge_new_replicas(replicas: Sequence[NewReplica]) -> tuple[Bar, ...]:
    """Hold the median of new replicas to the time within which one is to serve."""
    seconds = median(replica.serves_s for replica in replicas)
    return (judge("a new denoiser replica serves", seconds, NEW_REPLICA_S, unit="s"),)


def judge_swaps(scenes: Sequence[SwapFigures]) -> tuple[Bar, ...]:
    """Hold every scene to no failure and no mixture; the first one besides to how soon, and how smoothly, it swaps.

    A figure that is not there misses its bar.
    """
    return tuple(bar for one in scenes for bar in (*_judge_scene(one), *(_judge_plain(one) if _plain(one) else ())))


def _plain(scene: SwapFigures) -> bool:
    return scene.scene == "plain"


def _judge_scene(one: SwapFigures) -> tuple[Bar, ...]:
    # those asked for while MLflow was away have to say so
    lost = one.asked - one.promotions - (one.refused if one.away else 0)
    return (
        judge(f"{one.scene}: failed requests", one.failed, 0, unit=""),
        judge(f"{one.scene}: pictures of neither version", one.wrong, 0, unit=""),
        judge(f"{one.scene}: pictures of the version before, 2 s later", one.old, 0, unit=""),
        judge(f"{one.scene}: promotions that did not come, or did not say why", lost, 0, unit=""),
        judge(f"{one.scene}: promotions that no request had", one.unseen, 0, unit=""),
    )


def _judge_plain(one: SwapFigures) -> tuple[Bar, ...]:
    slowest = math.inf if one.slowest_s is None else one.slowest_s
    ratio = math.inf if one.p99_ratio is None else one.p99_ratio
    return (
        judge("from promote's return to its first request", slowest, SWAP_S, unit="s"),
        judge("p99 within promotions / outside", ratio, SWAP_P99_RATIO, unit=""),
    )
