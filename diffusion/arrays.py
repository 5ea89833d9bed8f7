"""Latents, and numbers given once for all of their rows or once for each."""

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from diffusion.errors import DiffusionError

Array: TypeAlias = npt.NDArray[np.float32]
Table: TypeAlias = npt.NDArray[np.float64]
PerRow: TypeAlias = float | npt.NDArray[np.floating]


def per_row(field: str, value: PerRow, latents: Array) -> Array:
    """Shape `value`, a scalar or [B], so that it multiplies `latents` [B, ...] row by row; float32.

    A row's number never depends on the other rows, so a row's result has the same bits in any batch.
    Raises DiffusionError for NaN or infinity, and for an array that has not one entry for each row.
    """
    numbers = np.asarray(value, dtype=np.float32)
    if not np.isfinite(numbers).all():
        raise DiffusionError(field, value, "finite")
    if numbers.ndim == 0:
        return numbers
    if numbers.shape != latents.shape[:1]:
        raise DiffusionError(
            field, f"shape {numbers.shape}", f"one number, or one for each of {latents.shape[:1]} rows"
        )
    return numbers.reshape(numbers.shape + (1,) * (latents.ndim - 1))
