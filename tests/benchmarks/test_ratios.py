import operator

import pytest

from benchmarks.ratios import compare, medians
from tests.benchmarks.conftest import times


def test_rounds_are_compared_one_by_one() -> None:
    # in the second round everything took ten times as long: no ratio is moved by it
    found = compare([2.0, 30.0, 3.0], [1.0, 10.0, 2.0], operator.truediv)
    assert found.each == (2.0, 3.0, 1.5)
    assert found.median == 2.0


def test_a_difference_keeps_its_sign() -> None:
    assert compare([1.0, 5.0], [4.0, 4.0], operator.sub).each == (-3.0, 1.0)


@pytest.mark.parametrize(("measured", "baseline"), [([], []), ([1.0, 2.0], [1.0])])
def test_rounds_must_be_there_and_pair_up(measured: list[float], baseline: list[float]) -> None:
    with pytest.raises(ValueError, match=r"no round|shorter"):
        compare(measured, baseline, operator.truediv)


def test_medians_are_by_field_and_count_each_step() -> None:
    found = medians([times(10), times(50), times(12)])
    assert found == {"text_encoder_ms": 1, "step_ms": 3, "denoiser_ms": 7, "vae_decoder_ms": 2, "whole_ms": 12}
