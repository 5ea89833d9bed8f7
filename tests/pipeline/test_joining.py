import numpy as np

from pipeline.joining import joined


def ones(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


def test_arrays_of_one_shape_are_put_together() -> None:
    text = {"text": np.arange(6, dtype=np.float32).reshape(2, 3)}
    together = joined([text, {"text": ones(1, 3)}], [2, 1])
    np.testing.assert_array_equal(together["text"], [[0, 1, 2], [3, 4, 5], [1, 1, 1]])


def test_what_a_part_lacks_is_zeros() -> None:
    together = joined([{}, {"up": ones(2, 4, 1)}, {"up": ones(1, 4, 2)}], [1, 2, 1])
    assert together["up"].shape == (4, 4, 2)
    assert together["up"].dtype == np.float32
    np.testing.assert_array_equal(together["up"].sum(axis=(1, 2)), [0, 4, 4, 8])
    np.testing.assert_array_equal(together["up"][1], [[1, 0]] * 4)


def test_a_part_alone_is_no_copy() -> None:
    text = ones(1, 3)
    assert joined([{"text": text}], [1])["text"] is text
