"""Measured times: between what was measured, read from a file, held against one another."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.errors import BenchmarkError
from benchmarks.plan.demand import mix_of
from benchmarks.plan.times import SizeTimes, read_times
from tests.benchmarks.plan.reckoning import timed

SIZE = SizeTimes(
    latent_pixels=64, ingress_s=1, graph_s=2, text_encoder_s=3, vae_decoder_s=4, run_s={2: 0.1, 4: 0.15, 8: 0.4}
)


def test_runs_between_those_measured_lie_on_their_line_and_larger_ones_in_proportion() -> None:
    assert [SIZE.run(rows) for rows in (2, 4, 8)] == [0.1, 0.15, 0.4]
    assert SIZE.run(3) == pytest.approx(0.125)
    assert SIZE.run(6) == pytest.approx(0.275)
    assert SIZE.run(16) == pytest.approx(0.8)
    # one row is not known to be faster than two
    assert SIZE.run(1) == 0.1


@given(st.integers(1, 64), st.integers(1, 64))
def test_more_rows_never_take_less(fewer: int, more: int) -> None:
    fewer, more = sorted((fewer, more))
    assert SIZE.run(fewer) <= SIZE.run(more)


def test_a_picture_alone_is_all_of_its_stages() -> None:
    times = timed(run_s={2: 0.1}, ingress_s=1.0, graph_s=2.0, text_encoder_s=3.0, vae_decoder_s=4.0)
    [asked] = mix_of("25x64x64")
    assert times.alone_s(asked) == pytest.approx(12.5)


def test_how_far_two_measurements_lie_apart_is_the_worse_of_alone_and_full() -> None:
    one = timed(run_s={2: 0.1, 8: 0.2})
    slower_alone = timed(run_s={2: 0.12, 8: 0.2})
    slower_full = timed(run_s={2: 0.1, 8: 0.3})
    assert one.drift(one) == 1
    assert one.drift(slower_alone) == pytest.approx(1.2) == slower_alone.drift(one)
    assert one.drift(slower_full) == pytest.approx(1.5)


def test_the_mean_lies_half_way() -> None:
    one, other = timed(run_s={2: 0.1}, graph_s=1.0), timed(run_s={2: 0.3}, graph_s=2.0)
    mean = one.mean(other).sizes["64x64"]
    assert mean.run_s[2] == pytest.approx(0.2)
    assert (mean.graph_s, mean.vae_decoder_s) == (1.5, 0.0)


def test_a_size_that_nobody_measured_is_told() -> None:
    [asked] = mix_of("25x512x512")
    with pytest.raises(BenchmarkError, match=r"^--mix: 512x512 was not measured; the times know 64x64$"):
        timed().of(asked)


def test_times_come_back_from_their_file(tmp_path: Path) -> None:
    times = timed(run_s={2: 0.1, 8: 0.3}, graph_s=0.25)
    file = tmp_path / "times.json"
    file.write_text(times.model_dump_json(), encoding="utf-8")
    assert read_times(file) == times


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sizes": {}}, "sizes: "),
        ({"limits": {"rows": 1, "pixels": 1, "queued": 1}}, "limits.rows: "),
        ({"sizes": {"64x64": SIZE.model_dump() | {"graph_s": -1}}}, "sizes.64x64.graph_s: "),
        ({"sizes": {"64x64": SIZE.model_dump() | {"run_s": {}}}}, "sizes.64x64.run_s: "),
        ({"colour": "red"}, "colour: "),
    ],
)
def test_a_file_of_something_else_is_told_by_its_field(change: dict[str, object], said: str, tmp_path: Path) -> None:
    file = tmp_path / "times.json"
    file.write_text(json.dumps({**timed().model_dump(), **change}), encoding="utf-8")
    with pytest.raises(BenchmarkError, match=r"^--times .*times\.json: ") as refused:
        read_times(file)
    assert said in str(refused.value)


def test_no_file_and_no_json_are_told(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match=r"^--times .*nothing\.json: No such file"):
        read_times(tmp_path / "nothing.json")
    (tmp_path / "text").write_text("hello")
    with pytest.raises(BenchmarkError, match=r"^--times .*text: "):
        read_times(tmp_path / "text")
