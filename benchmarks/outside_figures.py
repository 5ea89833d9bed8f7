"""What follows from the time of walks and of the runs in it."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from benchmarks.timed_runs import RunSpan


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Walks that arrived together: milliseconds until all have their latents, and of their runs.

    `run_ms` are those inside `session.run`, `between_ms` those from one to the next.
    """

    whole_ms: float
    run_ms: tuple[float, ...]
    between_ms: tuple[float, ...]

    @property
    def share(self) -> float:
        """The time outside `session.run` over the time inside: all from arrival to latents."""
        inside_ms = sum(self.run_ms)
        return (self.whole_ms - inside_ms) / inside_ms

    @property
    def outside_ms(self) -> float:
        """Milliseconds outside `session.run` for each run."""
        return (self.whole_ms - sum(self.run_ms)) / len(self.run_ms)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """Medians over samples of `walks` walks that share runs; `needed_run_ms` is the run that would just meet the bar.

    `outside_ms` holds what a walk costs once, spread over its runs; `between_ms` does not, and is None of a walk of one
    run.
    """

    geometry: str
    walks: int
    limit: float
    samples: tuple[Sample, ...]
    share: float
    outside_ms: float
    between_ms: float | None
    run_ms: float
    needed_run_ms: float


def summarise(geometry: str, walks: int, samples: Sequence[Sample], limit: float) -> Outside:
    """Draw the conclusions of some samples of a geometry, whose share may be `limit`."""
    outside_ms = median(sample.outside_ms for sample in samples)
    between_ms = [gap for sample in samples for gap in sample.between_ms]
    return Outside(
        geometry=geometry,
        walks=walks,
        limit=limit,
        samples=tuple(samples),
        share=median(sample.share for sample in samples),
        outside_ms=outside_ms,
        between_ms=median(between_ms) if between_ms else None,
        run_ms=median(run for sample in samples for run in sample.run_ms),
        needed_run_ms=outside_ms / limit,
    )


def sample_of(whole_ms: float, runs: Sequence[RunSpan]) -> Sample:
    """Put a sample together from the runs, in their order, of walks that took `whole_ms` altogether."""
    return Sample(
        whole_ms=whole_ms,
        run_ms=tuple((run.ended_s - run.began_s) * 1000 for run in runs),
        between_ms=tuple((later.began_s - run.ended_s) * 1000 for run, later in pairwise(runs)),
    )
