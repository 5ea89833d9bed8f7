"""The arrays of several rows as those of one run."""

from collections.abc import Sequence

import numpy as np

from components.messages import Arrays, FloatArray


def joined(parts: Sequence[Arrays], rows: Sequence[int]) -> Arrays:
    """Join the arrays of parts, [rows of that part, ...] each, along their rows, in order.

    An optional input that only some parts have, or in several sizes, is filled up with zeros, which have no effect.
    """
    if len(parts) == 1:
        # one part alone is fed as it is: no copy
        return parts[0]
    names = dict.fromkeys(name for part in parts for name in part)
    return {name: _joined(name, parts, rows) for name in names}


def _joined(name: str, parts: Sequence[Arrays], rows: Sequence[int]) -> FloatArray:
    found = [part[name] for part in parts if name in part]
    shapes = {array.shape[1:] for array in found}
    if len(found) == len(parts) and len(shapes) == 1:
        return np.concatenate(found)
    filled: FloatArray = np.zeros((sum(rows), *np.max(list(shapes), axis=0).tolist()), found[0].dtype)
    start = 0
    for part, count in zip(parts, rows, strict=True):
        if name in part:
            array = part[name]
            filled[(slice(start, start + count), *map(slice, array.shape[1:]))] = array
        start += count
    return filled
