"""A large picture through a network of the VAE in tiles: where they lie, and how they are laid into each other."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice, product
from typing import Any

import numpy as np
import numpy.typing as npt

from components.messages import FloatArray, Tiling

# of all tiles of one run together, unless one alone has more: a fixed number, so that a run's shape, and with it every
# bit of the result, follows from the picture and its tiling
_RUN_PIXELS = 512 * 512


@dataclass(frozen=True, slots=True)
class Grid:
    """Squares of `side` latents, one every `stride` of them from the first on; at the far edges they are cut off."""

    side: int
    stride: int

    @classmethod
    def of(cls, tiling: Tiling, downscale: int) -> "Grid":
        """The grid of a tiling, in latents that cover `downscale` by `downscale` pixels each."""
        side = max(1, tiling.side // downscale)
        return cls(side, max(1, int(side * (1 - tiling.overlap))))

    def cells(self, height: int, width: int) -> list[tuple[slice, slice]]:
        """Rows and columns of each tile of so many latents, from the top left, row by row."""
        down, across = (
            [slice(start, min(start + self.side, length)) for start in range(0, length, self.stride)]
            for length in (height, width)
        )
        return list(product(down, across))


def in_tiles(
    run: Callable[[npt.NDArray[Any]], FloatArray], whole: npt.NDArray[Any], tiling: Tiling, downscale: int, taken: int
) -> FloatArray:
    """What `run` makes of an array [batch, channels, height, width], tile by tile.

    `run` maps tiles [tiles, channels, h, w] either to what is `downscale` times as high and wide, where `taken` is 1,
    or to what is so many times less, where `taken` is `downscale`. Tiles of one shape share a run as far as there is
    room. Where tiles lie over each other each passes linearly into the next, as AutoencoderKL.tiled_decode and
    tiled_encode in diffusers do it: first down, then across.
    """
    given = downscale // taken
    height, width = (side // taken for side in whole.shape[2:])
    grid = Grid.of(tiling, downscale)
    cells = grid.cells(height, width)
    at_once = max(1, _RUN_PIXELS // (len(whole) * (grid.side * downscale) ** 2))
    made = _made(run, whole, [(_times(rows, taken), _times(columns, taken)) for rows, columns in cells], at_once)
    overlap = (grid.side - grid.stride) * given
    joined: FloatArray | None = None
    above: dict[int, FloatArray] = {}
    left: FloatArray | None = None
    for (rows, columns), tile in zip(cells, made, strict=True):
        if rows.start:
            _pass_over(above[columns.start], tile, overlap, axis=2)
        if columns.start:
            assert left is not None, "a row of tiles begins at the left edge"
            _pass_over(left, tile, overlap, axis=3)
        above[columns.start] = left = tile
        if joined is None:
            joined = np.empty((len(whole), tile.shape[1], height * given, width * given), np.float32)
        kept = grid.stride * given
        top, start = rows.start * given, columns.start * given
        joined[:, :, top : top + kept, start : start + kept] = tile[:, :, :kept, :kept]
    assert joined is not None, "there is a tile"
    return joined


def _times(part: slice, factor: int) -> slice:
    return slice(part.start * factor, part.stop * factor)


def _made(
    run: Callable[[npt.NDArray[Any]], FloatArray],
    whole: npt.NDArray[Any],
    cells: Sequence[tuple[slice, slice]],
    at_once: int,
) -> Iterator[FloatArray]:
    """What comes of each cell, in their order; neighbours of one shape share a run."""
    tiles = (whole[:, :, rows, columns] for rows, columns in cells)
    for _, alike in groupby(tiles, key=np.shape):
        while together := list(islice(alike, at_once)):
            # each a copy that is the caller's own to change
            yield from (part.copy() for part in np.split(run(np.concatenate(together)), len(together)))


def _pass_over(before: FloatArray, tile: FloatArray, overlap: int, axis: int) -> None:
    """Let the first `overlap` lines of a tile along an axis come out of the last ones of the tile before it."""
    lines = min(before.shape[axis], tile.shape[axis], overlap)
    if not lines:
        return
    share = (np.arange(lines) / lines).astype(np.float32).reshape((-1, 1) if axis == 2 else (1, -1))
    # [batch, channels, lines, width], or with the lines last
    last = before[:, :, -lines:] if axis == 2 else before[:, :, :, -lines:]
    first = tile[:, :, :lines] if axis == 2 else tile[:, :, :, :lines]
    first *= share
    first += last * (1 - share)
