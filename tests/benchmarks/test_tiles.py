"""How seams are measured, by pictures whose seams are known."""

import numpy as np
import pytest

from benchmarks.errors import BenchmarkError
from benchmarks.tiles import seams_of
from components.messages import Tiling

# tiles of 64 pixels begin every 48, and have wholly taken over 16 pixels later
TILING = Tiling(side=64, overlap=0.25)


def test_a_step_at_a_seam_is_found_and_one_elsewhere_is_none() -> None:
    whole = np.full((96, 80, 3), 100, np.uint8)
    for line, found in ((48, 6.0), (64, 6.0), (50, 0.0)):
        tiled = whole.copy()
        tiled[line:] += 6
        seams = seams_of(tiled, whole, TILING, 8)
        assert (seams.seam_step, seams.largest, seams.own_step) == (found, 6, 0.0)
        assert (seams.other_step > 0) == (found == 0)
        across = seams_of(tiled.transpose(1, 0, 2), whole.transpose(1, 0, 2), TILING, 8)
        assert across.seam_step == found


def test_pictures_own_changes_are_no_seams() -> None:
    whole = np.broadcast_to(np.arange(0, 192, 2, dtype=np.uint8)[:, None, None], (96, 80, 3))
    seams = seams_of(whole.copy(), whole, TILING, 8)
    assert (seams.seam_step, seams.largest, seams.own_step) == (0.0, 0, 1.0)


def test_a_picture_of_one_tile_has_no_seams() -> None:
    small = np.zeros((40, 40, 3), np.uint8)
    with pytest.raises(BenchmarkError, match="40x40 has no second tile"):
        seams_of(small, small, TILING, 8)
