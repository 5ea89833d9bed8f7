"""What the figures are held to."""

from dataclasses import dataclass

from benchmarks.ratios import Comparison

TEXT_TO_IMAGE_RATIO = 1.05
SERVED_EXTRA_MS = 60.0
COUNTED_PSS_MB = 2500.0
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


def judge_all(in_process_over_bare: Comparison, served_minus_bare_ms: Comparison, counted_pss: int) -> tuple[Bar, ...]:
    """Hold the medians and the peak memory, in bytes, to the bars of this project."""
    return (
        judge("TextToImage / bare", in_process_over_bare.median, TEXT_TO_IMAGE_RATIO, unit=""),
        judge("served - bare", served_minus_bare_ms.median, SERVED_EXTRA_MS, unit="ms"),
        judge("replicas, graph, ingress and proxy", counted_pss / _BYTES_OF_MB, COUNTED_PSS_MB, unit="MB"),
    )
