import numpy as np

from training.edges import agreement, edges


def square(left: int, size: int = 64) -> np.ndarray:
    picture = np.full((size, size, 3), 255, np.uint8)
    picture[16:48, left : left + 32] = 0
    return picture


def test_the_edges_of_a_square_run_along_its_sides() -> None:
    (found,) = edges(square(16)[None])
    rows, columns = np.nonzero(found)
    assert set(np.unique(found)) == {0, 1}
    side = np.minimum(np.abs(rows - 15.5), np.abs(rows - 47.5)) <= 1
    side |= np.minimum(np.abs(columns - 15.5), np.abs(columns - 47.5)) <= 1
    assert side.all()
    assert len(rows) > 4 * 28


def test_edges_agree_within_the_tolerance_and_no_further() -> None:
    near, here, far = edges(np.stack([square(14), square(16), square(26)]))
    assert agreement(here, here) == 1.0
    assert agreement(near, here) == 1.0
    assert 0.3 < agreement(far, here) < 0.8, "the long horizontal sides overlap, the others are ten pixels off"
    assert agreement(far, here) == agreement(here, far)


def test_no_edges_agree_with_none_and_nothing_else() -> None:
    (none,), (some,) = edges(np.zeros((1, 64, 64, 3), np.uint8)), edges(square(16)[None])
    assert agreement(none, none) == 1.0
    assert agreement(none, some) == agreement(some, none) == 0.0


def test_the_share_that_is_near_counts_on_both_sides() -> None:
    asked, drawn = np.zeros((2, 32, 32), np.uint8)
    asked[10, :16] = 1
    drawn[10, :] = 1
    recall, precision = 1.0, 18 / 32  # sixteen pixels lie on the asked line, two more within two pixels of its end
    assert agreement(drawn, asked) == np.float64(2 * precision * recall / (precision + recall))
