import pytest

from benchmarks.bars import judge, judge_all
from benchmarks.ratios import Comparison


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
        judged = judge_all(Comparison((9.0,), ratio), Comparison((900.0,), extra_ms), pss)
        return [bar.met for bar in judged]

    assert bars(1.04, 59.0, 2_499_000_000) == [True, True, True]
    assert bars(1.06, 59.0, 2_499_000_000) == [False, True, True]
    assert bars(1.04, 61.0, 2_499_000_000) == [True, False, True]
    assert bars(1.04, 59.0, 2_501_000_000) == [True, True, False]
