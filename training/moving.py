"""Pictures turned, resized, moved and mirrored at random: what a denoiser that knows them has not seen."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from training.pictures import PictureSet


def with_moved(pictures: PictureSet, which: Sequence[int], times: int, seed: int) -> PictureSet:
    """The pictures `which` as they are, and then as often as `times` says, each time moved in another way."""
    random = np.random.default_rng(seed)
    pixels = pictures.pixels[list(which)]
    changed = [moved(pixels, random) for _ in range(times)]
    return PictureSet(np.concatenate([pixels, *changed]), [pictures.pictures[i] for i in which] * (1 + times))


def moved(pixels: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
    """The pictures [B, H, W, 3], each turned, resized, moved and perhaps mirrored at random, on white."""
    return np.stack([_moved(each, random) for each in pixels])


def _moved(picture: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
    size = len(picture)
    turned, larger = random.uniform(-25, 25), random.uniform(0.65, 1.05)
    place = cv2.getRotationMatrix2D((size / 2, size / 2), turned, larger)
    place = np.column_stack([place[:, :2], place[:, 2] + random.uniform(-0.12, 0.12, 2) * size])
    mirrored = picture[:, ::-1] if random.random() < 0.5 else picture
    return np.asarray(
        cv2.warpAffine(
            np.ascontiguousarray(mirrored),
            place,
            (size, size),
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=(255, 255, 255),
        ),
        np.uint8,
    )
