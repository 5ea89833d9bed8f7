"""What a walk remembers of its runs: all of them in their order, and of very many so many spans."""

import time
from itertools import pairwise

import pytest

from components.contract import Kind
from components.reference import ComponentRef
from services.timelines.run_log import MOST_RUNS, Ran, RunLog
from services.timelines.spans import Span

PIN = ComponentRef(name="toy.denoiser", version=1, sha256="1" * 64)


def logged(runs: int) -> Span:
    """A walk that came at 10 by its replica's clock, waited 2 s, and had a run of half a second every second."""
    log = RunLog()
    for index in range(runs):
        log.add(Ran(12.0 + index, 0.5, rows=2 + index % 3, pictures=1 + index % 2, evaluation=1 + index))
    return log.span(10.0, 12.0 + runs, PIN, "replica-1")


def test_the_wait_and_every_run_are_told_by_the_wall_clock() -> None:
    before = time.time()
    walk = logged(3)
    after = time.time()
    assert (walk.stage, walk.component, walk.replica, walk.seconds) == (Kind.DENOISER, PIN, "replica-1", 5.0)
    assert before <= walk.end <= after
    queue, *runs = walk.parts
    assert (queue.name, queue.start, queue.seconds) == ("queue", walk.start, 2.0)
    assert [run.start - walk.start for run in runs] == pytest.approx([2.0, 3.0, 4.0], abs=1e-5)
    assert [run.seconds for run in runs] == [0.5] * 3
    assert runs[2].facts == {"runs": 1, "rows": 4, "pictures": 1, "first_evaluation": 3, "last_evaluation": 3}


@pytest.mark.parametrize("runs", [MOST_RUNS, MOST_RUNS + 1, 1000])
def test_very_many_runs_become_fewer_spans(runs: int) -> None:
    walk = logged(runs)
    spans = walk.parts[1:]
    assert len(spans) <= MOST_RUNS
    assert sum(int(span.facts["runs"]) for span in spans) == runs
    ranges = [(span.facts["first_evaluation"], span.facts["last_evaluation"]) for span in spans]
    assert ranges[0][0] == 1
    assert ranges[-1][1] == runs
    assert all(int(first) == int(last) + 1 for (_, last), (first, _) in pairwise(ranges))
    assert walk.size == 2 + len(spans)
