"""What a load during promotions is said to show, on answers made by hand."""

import pytest

from benchmarks.bars import judge_swaps
from benchmarks.open_loop import Drawn, moments
from benchmarks.promoter import Promotion
from benchmarks.swap_figures import SwapFigures, sum_up

EXPECTED = {(0, 1): "a1", (0, 2): "a2", (1, 1): "b1", (1, 2): "b2"}
PROMOTIONS = (Promotion(2, 10.0, 12.0, None), Promotion(1, 30.0, 32.0, None))


def drawn(sent_s: float, version: int, request: int = 0, *, ms: float = 100.0, digest: str | None = None) -> Drawn:
    made = EXPECTED[request, version] if digest is None else digest
    return Drawn(request, sent_s, sent_s, sent_s + ms / 1000, version, made, None)


def figures(*answers: Drawn, promotions: tuple[Promotion, ...] = PROMOTIONS, scene: str = "plain") -> SwapFigures:
    return sum_up(scene, answers, promotions, EXPECTED, asked=2, opened_s=1.0)


def test_a_clean_swap() -> None:
    found = figures(drawn(1, 1), drawn(11, 1), drawn(12.5, 2), drawn(20, 2, 1), drawn(31, 2), drawn(32.1, 1))
    assert (found.failed, found.wrong, found.old) == (0, 0, 0)
    assert found.versions == {1: 3, 2: 3}
    assert found.slowest_s == pytest.approx(0.5)
    assert found.promote_s == pytest.approx(2.0)
    assert all(bar.met for bar in judge_swaps([found]) if "p99" not in bar.name)


def test_a_version_seen_before_its_promotion_returns_is_no_delay() -> None:
    assert figures(drawn(1, 1), drawn(11.9, 2)).slowest_s == pytest.approx(-0.1)


def test_a_picture_of_neither_version_is_wrong_and_so_is_one_of_the_other() -> None:
    found = figures(drawn(1, 1, digest="mixed"), drawn(20, 2, 1, digest="b1"), drawn(21, 2, 1))
    assert found.wrong == 2
    assert not all(bar.met for bar in judge_swaps([found]))


def test_the_version_before_is_old_two_seconds_after_the_return() -> None:
    assert figures(drawn(13.9, 1)).old == 0
    assert figures(drawn(14.1, 1)).old == 1
    # while the next one is under way either version may come
    assert figures(drawn(30.5, 1), drawn(30.6, 2)).old == 0
    assert figures(drawn(35.0, 2)).old == 1


def test_requests_under_way_in_a_window_are_apart_from_the_others() -> None:
    found = figures(drawn(1, 1, ms=50), drawn(9, 1, ms=2000), drawn(13.9, 2, ms=400), drawn(20, 2, ms=60))
    assert found.requests_within == 2
    assert found.p99_within_ms == pytest.approx(2000)
    assert found.p99_outside_ms == pytest.approx(60)
    assert found.p99_ratio == pytest.approx(2000 / 60)


def test_failures_and_refused_promotions_are_told_in_their_words() -> None:
    failed = Drawn(0, 5.0, 5.0, 6.0, 0, "", "ReadError")
    away = Promotion(2, 40.0, 41.0, "the registry cannot be reached")
    found = figures(drawn(1, 1), failed, promotions=(*PROMOTIONS, away))
    assert (found.failed, found.errors) == (1, ("ReadError",))
    assert (found.promotions, found.refused, found.refusal) == (2, 1, "the registry cannot be reached")


AWAY = Promotion(1, 30.0, 31.0, "the registry at http://127.0.0.1:1 cannot be reached")
WORKED = (drawn(1, 1), drawn(12.5, 2), drawn(32.1, 1))


@pytest.mark.parametrize(
    ("answers", "promotions", "scene", "missed"),
    [
        (WORKED, PROMOTIONS, "plain", set()),
        (WORKED[:2], PROMOTIONS[:1], "plain", {"promotions that did not come, or did not say why"}),
        (WORKED[:2], (PROMOTIONS[0], AWAY), "plain", {"promotions that did not come, or did not say why"}),
        (WORKED[:2], (PROMOTIONS[0], AWAY), "mlflow", set()),
        (WORKED[:2], PROMOTIONS, "kill", {"promotions that no request had"}),
        (
            WORKED[:1],
            (),
            "plain",
            {
                "promotions that did not come, or did not say why",
                "from promote's return to its first request",
                "p99 within promotions / outside",
            },
        ),
    ],
)
def test_what_did_not_happen_misses_its_bar(
    answers: tuple[Drawn, ...], promotions: tuple[Promotion, ...], scene: str, missed: set[str]
) -> None:
    bars = judge_swaps([figures(*answers, promotions=promotions, scene=scene)])
    assert {bar.name.removeprefix(f"{scene}: ") for bar in bars if not bar.met} == missed


def test_a_request_counts_from_when_it_was_due() -> None:
    late = Drawn(0, 20.0, 20.3, 20.4, 2, "a2", None)
    assert figures(late).p99_outside_ms == pytest.approx(400)


def test_a_load_comes_at_its_rate() -> None:
    found = moments(5.0, 1000.0, seed=3)
    assert found == sorted(found)
    assert 0 < found[0] < found[-1] < 1000
    assert len(found) == pytest.approx(5000, rel=0.05)
    assert found == moments(5.0, 1000.0, seed=3) != moments(5.0, 1000.0, seed=4)
