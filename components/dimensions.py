"""Dimensions that follow from others: `height/2` is half of a height, `height*8` a side in pixels."""

import re
from collections.abc import Mapping

_FOLLOWS = re.compile(r"(?P<name>[a-z_]+)(?P<sign>[*/])(?P<factor>[1-9][0-9]{0,3})")


def size_of(dimension: int | str, sizes: Mapping[str, int]) -> int | None:
    """The number of a dimension of a contract, from the `sizes` of the names that callers choose.

    A division is one without remainder in all sizes that a contract allows. None where the name is not among them.
    """
    if isinstance(dimension, int):
        return dimension
    match = _FOLLOWS.fullmatch(dimension)
    if match is None or match["name"] not in sizes:
        return sizes.get(dimension)
    size, factor = sizes[match["name"]], int(match["factor"])
    return size * factor if match["sign"] == "*" else size // factor
