import pytest

from components.dimensions import size_of

SIZES = {"batch": 3, "height": 24}


@pytest.mark.parametrize(
    ("dimension", "size"),
    [(7, 7), ("batch", 3), ("height/4", 6), ("height*8", 192), ("width", None), ("width/2", None), ("height/0", None)],
)
def test_a_dimension_follows_from_the_sizes_that_are_chosen(dimension: int | str, size: int | None) -> None:
    assert size_of(dimension, SIZES) == size
