from itertools import islice

import numpy as np
import pytest

from benchmarks.arrivals import LONG_STEPS, SHORT_STEPS, mixture, poisson
from benchmarks.task import Task


def test_a_fifth_of_the_requests_is_long_and_each_has_a_seed_of_its_own(task: Task) -> None:
    requests = list(islice(mixture(task.request, seed=0), 5000))
    steps = [request.steps for request in requests]
    assert set(steps) == {SHORT_STEPS, LONG_STEPS} == {4, 50}
    assert steps.count(SHORT_STEPS) / 5000 == pytest.approx(0.8, abs=0.02)
    assert [request.seed for request in requests] == [task.request.seed + index for index in range(5000)]


def test_the_same_seed_gives_the_same_load_and_another_seed_another(task: Task) -> None:
    assert poisson(task.request, 5.0, 50, seed=3) == poisson(task.request, 5.0, 50, seed=3)
    assert poisson(task.request, 5.0, 50, seed=3) != poisson(task.request, 5.0, 50, seed=4)


def test_the_load_ends_with_the_last_short_request_that_was_asked_for(task: Task) -> None:
    arrivals = poisson(task.request, 5.0, 50, seed=0)
    steps = [arrival.request.steps for arrival in arrivals]
    assert steps.count(SHORT_STEPS) == 50
    assert steps[-1] == SHORT_STEPS


def test_arrivals_are_poissons_at_the_rate(task: Task) -> None:
    moments = np.array([arrival.at_s for arrival in poisson(task.request, 5.0, 8000, seed=0)])
    gaps = np.diff(moments, prepend=0.0)
    assert gaps.min() > 0
    assert gaps.mean() == pytest.approx(0.2, rel=0.03)
    # an exponential distribution's deviation is its mean, and e^-1 of it lies beyond
    assert gaps.std() == pytest.approx(0.2, rel=0.05)
    assert (gaps > 0.2).mean() == pytest.approx(np.exp(-1), abs=0.02)
    # arrivals in intervals that do not overlap: variance and mean of their number are equal, and one tells nothing
    counts = np.bincount(moments.astype(int))[:-1]
    assert counts.var() / counts.mean() == pytest.approx(1, abs=0.15)
    assert np.corrcoef(counts[1:], counts[:-1])[0, 1] == pytest.approx(0, abs=0.08)


@pytest.mark.parametrize(("per_second", "shorts"), [(0.0, 5), (float("nan"), 5), (1.0, 0)])
def test_a_load_of_nothing_is_refused(task: Task, per_second: float, shorts: int) -> None:
    with pytest.raises(ValueError, match="a load of"):
        poisson(task.request, per_second, shorts, seed=0)
