"""Pictures of arrays, laid out for a reader: golden outputs, and what a trial drew."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

from components.messages import Pixels


def to_pictures(pixels: npt.NDArray[np.floating]) -> list[Pixels]:
    """The pictures [H, W, 3], 0..255, of an array [batch, 3, H, W] in -1..1; what is not finite is black."""
    scaled = np.nan_to_num(np.clip(pixels.astype(np.float32) / 2 + 0.5, 0, 1), nan=0.0) * 255
    return list(np.rint(scaled).astype(np.uint8).transpose(0, 2, 3, 1))


def contact_sheet(rows: Sequence[Sequence[Pixels]]) -> Image.Image:
    """Rows of pictures, each in a cell of the largest one's size; rows without any are left out.

    At least one row must have one.
    """
    filled = [row for row in rows if row]
    height = max(picture.shape[0] for row in filled for picture in row)
    width = max(picture.shape[1] for row in filled for picture in row)
    sheet = Image.new("RGB", (width * max(map(len, filled)), height * len(filled)), "white")
    for top, row in enumerate(filled):
        for left, picture in enumerate(row):
            sheet.paste(Image.fromarray(picture), (left * width, top * height))
    return sheet
