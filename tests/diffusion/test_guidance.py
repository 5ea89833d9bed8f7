"""Guidance against its formulas, and against diffusers."""

import math
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import rescale_noise_cfg
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from diffusion.errors import DiffusionError
from diffusion.guidance import ALONE, Guidance, Row, SkipGuidance, agree, guide, guide_edit, rescale
from diffusion.noise import noise

SHAPE = (3, 4, 2, 2)
UNCOND, COND = noise(1, 0, SHAPE), noise(2, 0, SHAPE)

seeds = st.integers(0, 2**32 - 1)
shapes = st.tuples(st.integers(1, 5), st.integers(1, 4), st.integers(1, 9), st.integers(2, 9))
scales = st.floats(0, 50)
shares = st.floats(0, 1)


def rows_of(uncond: Any, cond: Any) -> dict[Row, Any]:
    return {Row.NEGATIVE: uncond, Row.POSITIVE: cond}


def test_scale_0_ignores_the_prompt_and_1_is_conditional() -> None:
    assert_array_equal(guide(UNCOND, COND, 0.0), UNCOND)
    assert_allclose(guide(UNCOND, COND, 1.0), COND, atol=5e-7)


@pytest.mark.parametrize("scale", [-1.0, 0.5, 7.5])
def test_formula(scale: float) -> None:
    expected = (1 - scale) * UNCOND.astype(np.float64) + scale * COND.astype(np.float64)
    guided = guide(UNCOND, COND, scale)
    assert guided.dtype == np.float32
    assert_allclose(guided, expected, atol=1e-5)


def test_each_row_has_its_own_scale() -> None:
    scales = np.array([0.0, 3.0, 7.5])
    together = guide(UNCOND, COND, scales)
    for row, scale in enumerate(scales):
        assert_array_equal(together[row], guide(UNCOND[row], COND[row], float(scale)))


def test_scale_is_finite() -> None:
    with pytest.raises(DiffusionError, match="scale=nan: must be finite"):
        guide(UNCOND, COND, float("nan"))


@pytest.mark.parametrize("phi", [0.0, 0.3, 0.7, 1.0])
@pytest.mark.parametrize("shape", [SHAPE, (2, 4, 64, 64), (1, 16, 12, 8)])
def test_rescale_is_that_of_diffusers(shape: tuple[int, ...], phi: float) -> None:
    cond = noise(2, 0, shape)
    guided = guide(noise(1, 0, shape), cond, 7.5)
    theirs = rescale_noise_cfg(torch.from_numpy(guided), torch.from_numpy(cond), guidance_rescale=phi).numpy()
    ours = rescale(guided, cond, phi)
    assert ours.dtype == np.float32
    assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6 * float(np.abs(theirs).max()))


@given(seed=seeds, shape=shapes, phi=shares)
def test_rescale_moves_each_rows_deviation_by_phi(seed: int, shape: tuple[int, ...], phi: float) -> None:
    cond = noise(seed, 1, shape)
    guided = guide(noise(seed, 0, shape), cond, 5.0)
    for row, before, wanted in zip(rescale(guided, cond, phi), guided, cond, strict=True):
        deviations = [_deviation(each) for each in (row, before, wanted)]
        assert deviations[0] == pytest.approx(phi * deviations[2] + (1 - phi) * deviations[1], rel=1e-5)


@given(seed=seeds, shape=shapes, scale=scales)
def test_no_rescale_changes_no_bit(seed: int, shape: tuple[int, ...], scale: float) -> None:
    uncond, cond = noise(seed, 0, shape), noise(seed, 1, shape)
    guided = guide(uncond, cond, scale)
    assert rescale(guided, cond, 0.0).tobytes() == guided.tobytes()
    assert Guidance(scale=scale).combine(rows_of(uncond, cond)).tobytes() == guided.tobytes()


@given(seed=seeds, shape=shapes, scale=scales, phi=shares)
def test_a_rows_bytes_are_the_same_in_any_batch(seed: int, shape: tuple[int, ...], scale: float, phi: float) -> None:
    uncond, cond = noise(seed, 0, shape), noise(seed, 1, shape)
    guidance = Guidance(scale=scale, rescale=phi)
    together = guidance.combine(rows_of(uncond, cond))
    for row in range(shape[0]):
        alone = guidance.combine(rows_of(uncond[row : row + 1].copy(), cond[row : row + 1].copy()))
        assert alone.tobytes() == together[row : row + 1].tobytes()


@pytest.mark.parametrize("phi", [-0.1, 1.1, math.nan])
def test_phi_is_a_share(phi: float) -> None:
    with pytest.raises(DiffusionError, match="guidance_rescale=.*: must be between 0 and 1"):
        rescale(UNCOND, COND, phi)


def test_a_row_without_deviation_stays() -> None:
    flat = np.ones(SHAPE, dtype=np.float32)
    assert_array_equal(rescale(flat, COND, 0.7), flat)


@pytest.mark.parametrize(
    ("start", "end", "guided"),
    [
        (0.0, 1.0, range(10)),
        (0.0, 0.3, range(3)),
        (0.3, 0.6, range(3, 6)),
        (0.6, 1.0, range(6, 10)),
        (0.25, 0.75, range(3, 8)),
        (0.31, 0.39, range(0)),
        (0.9, 1.0, range(9, 10)),
    ],
)
def test_a_step_is_guided_where_it_begins_in_the_interval(start: float, end: float, guided: range) -> None:
    guidance = Guidance(scale=5.0, start=start, end=end)
    assert [step for step in range(10) if guidance.guides(step, 10)] == list(guided)


@given(bounds=st.lists(shares, max_size=4), steps=st.integers(1, 150), scale=scales.filter(lambda scale: scale != 1))
def test_adjoining_intervals_guide_every_step_once(bounds: list[float], steps: int, scale: float) -> None:
    edges = sorted({0.0, 1.0, *bounds})
    parts = [Guidance(scale=scale, start=start, end=end) for start, end in pairwise(edges)]
    for step in range(steps):
        assert sum(part.guides(step, steps) for part in parts) == 1


@pytest.mark.parametrize("scale", [1, 1.0])
def test_scale_1_guides_no_step(scale: float) -> None:
    assert not any(Guidance(scale=scale, rescale=0.7).guides(step, 10) for step in range(10))


@given(seed=seeds, shape=shapes)
def test_agreement_is_the_cosine(seed: int, shape: tuple[int, ...]) -> None:
    one, other = noise(seed, 0, (1, *shape[1:])), noise(seed, 1, (1, *shape[1:]))
    pairs = list(zip(one.ravel().tolist(), other.ravel().tolist(), strict=True))
    lengths = [math.sqrt(math.fsum(pair[side] ** 2 for pair in pairs)) for side in (0, 1)]
    expected = math.fsum(a * b for a, b in pairs) / math.prod(lengths)
    assert agree(one, other) == pytest.approx(expected, rel=1e-12, abs=1e-12)
    assert agree(one, one) == 1
    assert agree(one, -one) == -1
    assert agree(one, np.float32(4) * one) == pytest.approx(1, abs=1e-12)


def test_agreement_of_nothing() -> None:
    zeros = np.zeros_like(COND[:1])
    assert agree(zeros, zeros) == 1
    assert agree(zeros, COND[:1]) == agree(COND[:1], zeros) == 0


def test_predictions_agree_from_the_threshold_on() -> None:
    uncond, cond = COND[:1] + np.float32(0.1) * UNCOND[:1], COND[:1]
    found = agree(uncond, cond)
    assert 0.9 < found < 1
    assert Guidance(scale=5.0, agreement=found).agrees(rows_of(uncond, cond))
    assert not Guidance(scale=5.0, agreement=math.nextafter(found, 1)).agrees(rows_of(uncond, cond))
    assert not Guidance(scale=5.0).agrees(rows_of(cond, cond))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"scale": -0.5}, "guidance=-0.5: must be a finite number, at least 0"),
        ({"scale": math.inf}, "guidance=inf: must be a finite number, at least 0"),
        ({"scale": math.nan}, "guidance=nan: must be a finite number, at least 0"),
        ({"rescale": 1.5}, "guidance_rescale=1.5: must be between 0 and 1"),
        ({"rescale": math.nan}, "guidance_rescale=nan: must be between 0 and 1"),
        ({"start": -0.1}, "guidance_start=-0.1: must be between 0 and 1"),
        ({"end": 1.1}, "guidance_end=1.1: must be between 0 and 1"),
        ({"end": math.nan}, "guidance_end=nan: must be between 0 and 1"),
        ({"start": 0.5, "end": 0.5}, "guidance_start=0.5: must be less than guidance_end, 0.5"),
        ({"start": 1.0}, "guidance_start=1.0: must be less than guidance_end, 1"),
        ({"agreement": 0.0}, "adaptive_guidance=0.0: must be over 0 and at most 1"),
        ({"agreement": 1.01}, "adaptive_guidance=1.01: must be over 0 and at most 1"),
        ({"agreement": math.nan}, "adaptive_guidance=nan: must be over 0 and at most 1"),
    ],
)
def test_a_field_out_of_its_limits_is_named(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(DiffusionError) as refused:
        Guidance(**{"scale": 5.0} | fields)
    assert str(refused.value) == words
    assert refused.value.field == words.partition("=")[0]


def _deviation(row: np.ndarray[Any, np.dtype[np.float32]]) -> float:
    values = row.ravel().astype(np.float64).tolist()
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / len(values))


@pytest.mark.parametrize(("scale", "image_scale"), [(7.5, 1.5), (1.0, 1.0), (0.0, 0.0)])
def test_an_edit_keeps_to_picture_and_instruction(scale: float, image_scale: float) -> None:
    image = noise(3, 0, SHAPE)
    wide = (array.astype(np.float64) for array in (UNCOND, image, COND))
    nothing, picture, both = wide
    # Brooks et al. 2023, equation 3
    expected = nothing + image_scale * (picture - nothing) + scale * (both - picture)
    assert_allclose(guide_edit(UNCOND, image, COND, scale, image_scale), expected, atol=1e-5)
    guidance = Guidance(scale=scale, image_scale=image_scale)
    assert guidance.rows(0, 4) == (Row.NEGATIVE, Row.IMAGE, Row.POSITIVE)
    found = guidance.combine({Row.NEGATIVE: UNCOND, Row.IMAGE: image, Row.POSITIVE: COND})
    assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("image_scale", [-1.0, math.nan, math.inf])
def test_an_image_scale_is_a_number(image_scale: float) -> None:
    with pytest.raises(DiffusionError, match="image_guidance="):
        Guidance(scale=2.0, image_scale=image_scale)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"scale": -1.0}, "skip_layer_guidance=-1.0: must be a finite number, at least 0"),
        ({"scale": math.nan}, "skip_layer_guidance=nan: must be a finite number, at least 0"),
        ({"start": -0.1}, "skip_layer_guidance_start=-0.1: must be between 0 and 1"),
        ({"end": 1.1}, "skip_layer_guidance_end=1.1: must be between 0 and 1"),
        ({"start": 0.2}, "skip_layer_guidance_start=0.2: must be less than skip_layer_guidance_end, 0.2"),
    ],
)
def test_a_field_of_skipping_out_of_its_limits_is_named(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(DiffusionError) as refused:
        SkipGuidance(**fields)
    assert str(refused.value) == words


@pytest.mark.parametrize(
    ("start", "end", "steps", "expected"),
    # diffusers: i > steps * start and i < steps * stop
    [(0.01, 0.2, 28, range(1, 6)), (0.0, 1.0, 4, range(1, 4)), (0.25, 0.75, 4, [2]), (0.01, 0.2, 4, [])],
)
def test_layers_are_skipped_between_start_and_end(
    start: float, end: float, steps: int, expected: Iterable[int]
) -> None:
    guidance = Guidance(scale=4.0, skip=SkipGuidance(start=start, end=end))
    skipping = [step for step in range(steps) if Row.SKIPPING in guidance.rows(step, steps)]
    assert skipping == list(expected)
    assert all(guidance.rows(step, steps)[:2] == (Row.NEGATIVE, Row.POSITIVE) for step in range(steps))


def test_no_layers_are_skipped_where_nothing_is_guided() -> None:
    guidance = Guidance(scale=4.0, start=0.5, skip=SkipGuidance(end=0.9))
    assert guidance.rows(1, 4) == ALONE
    assert guidance.rows(2, 4) == (Row.NEGATIVE, Row.POSITIVE, Row.SKIPPING)


@pytest.mark.parametrize("scale", [4.0, 1.0])
def test_a_walk_is_led_away_from_what_lacks_layers(scale: float) -> None:
    lacking = noise(3, 0, SHAPE)
    guidance = Guidance(scale=scale, skip=SkipGuidance(scale=2.8, start=0, end=1))
    rows = {Row.NEGATIVE: UNCOND, Row.POSITIVE: COND, Row.SKIPPING: lacking}
    weighed = {row: rows[row] for row in guidance.rows(1, 4)}
    assert (Row.NEGATIVE in weighed) == (scale != 1)
    guided = UNCOND.astype(np.float64) + scale * (COND.astype(np.float64) - UNCOND)
    expected = guided + 2.8 * (COND.astype(np.float64) - lacking)
    assert_allclose(guidance.combine(weighed), expected, atol=1e-5)
    del weighed[Row.SKIPPING]
    assert_allclose(guidance.combine(weighed), guided, atol=1e-5)
    assert not Guidance(scale=1.0, skip=SkipGuidance(), agreement=0.1).agrees({Row.POSITIVE: COND, Row.SKIPPING: COND})
