"""Edges of pictures by Canny's detector (1986), as an adapter is asked for them, and how well drawn ones agree."""

import cv2
import numpy as np
from numpy.typing import NDArray

# What most people call it with, and so what the edges that they bring look like.
LOW, HIGH = 100, 200
TOLERANCE = 2.0


def edges(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The edges, 0 or 1 [B, H, W], of uint8 pictures [B, H, W, 3]."""
    found = [cv2.Canny(np.ascontiguousarray(each), LOW, HIGH) for each in pixels]
    return (np.stack(found) > 0).astype(np.uint8)


def agreement(drawn: NDArray[np.uint8], asked: NDArray[np.uint8], tolerance: float = TOLERANCE) -> float:
    """F1 in [0, 1] of drawn edges [H, W] to asked ones: both are right within `tolerance` pixels of the other's.

    The boundary measure of Martin, Fowlkes and Malik (2004), with nearness in place of a matching of pixels.
    """
    if not drawn.any() or not asked.any():
        return float(not drawn.any() and not asked.any())
    precision, recall = _near(drawn, asked, tolerance), _near(asked, drawn, tolerance)
    return 0.0 if precision + recall == 0 else 2 * precision * recall / (precision + recall)


def _near(these: NDArray[np.uint8], others: NDArray[np.uint8], tolerance: float) -> float:
    distances = cv2.distanceTransform(1 - others, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return float((distances[these > 0] <= tolerance).mean())
