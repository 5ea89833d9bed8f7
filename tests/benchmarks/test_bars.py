import pytest

from benchmarks.bars import judge, judge_outside, judge_paths
from benchmarks.outside_figures import sample_of, summarise
from benchmarks.ratios import Comparison
from benchmarks.timed_runs import RunSpan


@pytest.mark.parametrize(
    ("value", "met", "missed_by"), [(1.0, True, 0.0), (1.05, True, 0.0), (1.0501, False, 0.0001), (3.0, False, 1.95)]
)
def test_a_bar_is_met_up_to_its_limit(value: float, met: bool, missed_by: float) -> None:
    bar = judge("ratio", value, 1.05, unit="")
    assert bar.met is met
    assert bar.missed_by == pytest.approx(missed_by)


def test_medians_and_memory_are_held_to_the_projects_bars() -> None:
    def bars(ratio: float, extra_ms: float, pss: int) -> list[bool]:
        # the rounds themselves are far over every bar
        judged = judge_paths(Comparison((9.0,), ratio), Comparison((900.0,), extra_ms), pss)
        return [bar.met for bar in judged]

    assert bars(1.04, 59.0, 2_499_000_000) == [True, True, True]
    assert bars(1.06, 59.0, 2_499_000_000) == [False, True, True]
    assert bars(1.04, 61.0, 2_499_000_000) == [True, False, True]
    assert bars(1.04, 59.0, 2_501_000_000) == [True, True, False]


def test_a_geometry_is_judged_where_its_share_is_the_most() -> None:
    runs = [RunSpan(0.0, 0.1)]
    found = [
        summarise(name, walks, [sample_of(whole_ms, runs)], limit)
        for name, walks, whole_ms, limit in (("a", 1, 107, 0.08), ("a", 4, 109, 0.08), ("b", 1, 101, 0.02))
    ]
    assert [(bar.name, round(bar.value, 6), bar.met) for bar in judge_outside(found)] == [
        ("outside session.run, a", 9.0, False),
        ("outside session.run, b", 1.0, True),
    ]
