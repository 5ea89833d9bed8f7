import pytest

from benchmarks.percentiles import Percentiles, percentile, percentiles


@pytest.mark.parametrize(
    ("percent", "value"), [(0, 1.0), (1, 1.0), (1.1, 2.0), (50, 50.0), (99, 99.0), (99.1, 100.0), (100, 100.0)]
)
def test_a_percentile_is_the_smallest_value_that_so_many_do_not_exceed(percent: float, value: float) -> None:
    backwards = [float(number) for number in range(100, 0, -1)]
    assert percentile(backwards, percent) == value


def test_of_a_thousand_ten_lie_beyond_the_p99() -> None:
    values = [float(number) for number in range(1000)]
    found = percentiles(values)
    assert found == Percentiles(count=1000, p50=499.0, p90=899.0, p99=989.0, most=999.0)
    assert sum(value > found.p99 for value in values) == 10


def test_nothing_has_no_percentile() -> None:
    with pytest.raises(ValueError, match="no values"):
        percentiles([])
