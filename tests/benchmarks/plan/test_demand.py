"""What is asked for, as it is written, and when it comes."""

import math
from collections import Counter

import pytest

from benchmarks.errors import BenchmarkError
from benchmarks.plan.demand import Asked, Size, burst, mix_of, poisson, rate_of, seconds_of

MIX = (Asked(12, Size(128, 128), 3.0), Asked(30, Size(256, 128), 1.0))


def test_rates_and_seconds_are_read_in_their_units() -> None:
    assert rate_of("5/s") == 5
    assert rate_of("300/min") == 5
    assert rate_of("1800/h") == 0.5
    assert seconds_of("--p95", "800ms") == 0.8
    assert seconds_of("--p95", "1.5s") == 1.5
    assert seconds_of("--p95", "2min") == 120


@pytest.mark.parametrize("text", ["5", "0/s", "-1/s", "5/day", "1000000/s", "nan/s", "5 /s", ""])
def test_no_rate_is_refused_by_name(text: str) -> None:
    with pytest.raises(BenchmarkError, match=f"^--rate {text}: must be such as 5/s"):
        rate_of(text)


@pytest.mark.parametrize("text", ["3", "0s", "-1s", "2h", "100min", "infs", ""])
def test_no_duration_is_refused_by_name(text: str) -> None:
    with pytest.raises(BenchmarkError, match=f"^--p95 {text}: must be such as 3s"):
        seconds_of("--p95", text)


def test_a_mix_is_read() -> None:
    assert mix_of("12x128x128=3, 30x256x128=1") == MIX
    assert mix_of("20x512x512") == (Asked(20, Size(512, 512), 1.0),)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "must be STEPSxWIDTHxHEIGHT=SHARE"),
        ("20x512", "must be STEPSxWIDTHxHEIGHT=SHARE"),
        ("20x512x512=many", "must be STEPSxWIDTHxHEIGHT=SHARE"),
        ("20x512x512=0", "share must be above 0"),
        ("0x512x512", "steps must be from 1 to 1000, not 0"),
        ("1001x512x512", "steps must be from 1 to 1000, not 1001"),
        ("20x99999x512", "width must be from 1 to 16384, not 99999"),
        ("20x512x512=1,20x512x512=2", "twice"),
    ],
)
def test_no_mix_is_refused_by_name(text: str, said: str) -> None:
    with pytest.raises(BenchmarkError, match="^--mix") as refused:
        mix_of(text)
    assert said in str(refused.value)


def test_as_many_come_as_are_asked_for_and_in_their_shares() -> None:
    arrivals = list(poisson(MIX, 50.0, 400.0, seed=1))
    moments = [each.at_s for each in arrivals]
    assert moments == sorted(moments)
    assert 0 <= moments[0] < moments[-1] < 400
    # within four standard deviations of both laws
    assert len(arrivals) == pytest.approx(20_000, abs=4 * math.sqrt(20_000))
    counts = Counter(each.asked for each in arrivals)
    assert counts[MIX[1]] / len(arrivals) == pytest.approx(0.25, abs=4 * math.sqrt(0.25 * 0.75 / len(arrivals)))
    assert arrivals == list(poisson(MIX, 50.0, 400.0, seed=1))
    assert arrivals != list(poisson(MIX, 50.0, 400.0, seed=2))


def test_in_a_burst_so_many_times_as_many_come() -> None:
    arrivals = list(burst(MIX, 20.0, 8.0, (100.0, 150.0), 300.0, seed=1))
    moments = [each.at_s for each in arrivals]
    assert moments == sorted(moments)
    within = sum(100 <= moment < 150 for moment in moments)
    assert within == pytest.approx(8000, abs=4 * math.sqrt(8000))
    assert len(moments) - within == pytest.approx(5000, abs=4 * math.sqrt(5000))
