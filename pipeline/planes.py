"""Pictures of 8 bits as networks see them."""

import numpy as np

from components.messages import FloatArray, Pixels


def unit_planes(pixels: Pixels) -> FloatArray:
    """Pixels [batch, height, width, channels], 0..255, as planes [batch, channels, height, width], 0..1."""
    planes = pixels.transpose(0, 3, 1, 2).astype(np.float32, order="C")
    planes /= np.float32(255)
    return planes


def signed_planes(pixels: Pixels) -> FloatArray:
    """Pixels [batch, height, width, channels], 0..255, as planes [batch, channels, height, width], -1..1."""
    planes = unit_planes(pixels)
    planes *= np.float32(2)
    planes -= np.float32(1)
    return planes
