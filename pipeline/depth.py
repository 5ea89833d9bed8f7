"""How far away things are, as a denoiser that sees depth looks at it."""

import numpy as np
import numpy.typing as npt
from PIL import Image

from components.messages import FloatArray
from pipeline.errors import refuse
from pipeline.source_pictures import grey_values

# of Keys' kernel, as torch's interpolate has it; Pillow's is -0.5, and smooths where it makes smaller
_SLOPE = -0.75
# of a map's range: what is left of it at the latents' size is no more than rounding
_FLAT = 1e-5


def depth_plane(picture: Image.Image, width: int, height: int, most: int) -> FloatArray:
    """A depth map as a plane [1, 1, height, width] of the latents' size, its least value -1 and its greatest 1.

    Maps of any scale say the same; the greater, the nearer, as MiDaS has it. Resized by cubic convolution, as in
    diffusers.

    Raises:
        RequestError: the map has more than `most` pixels, cannot be read, has values that are not finite, or one alone.
    """
    values = grey_values("depth", picture, most)
    # with a NaN among them both are one
    least, greatest = float(values.min()), float(values.max())
    if not np.isfinite(least) or not np.isfinite(greatest):
        raise refuse("depth", "values that are not finite", "a picture of finite ones")
    plane = _resized(_resized(values, height, 0), width, 1)
    lowest, span = plane.min(), plane.max() - plane.min()
    if greatest == least or span <= _FLAT * (greatest - least):
        raise refuse("depth", "one value", "a picture of several, in the size that is drawn")
    normal = 2 * (plane - lowest) / span - 1
    return np.ascontiguousarray(normal[np.newaxis, np.newaxis], np.float32)


def _resized(values: npt.NDArray[np.floating], size: int, axis: int) -> npt.NDArray[np.float64]:
    """Values resized along an axis by cubic convolution at the centres of `size` parts: Keys 1981, equation 4."""
    length = values.shape[axis]
    at = (np.arange(size) + 0.5) * (length / size) - 0.5
    before = np.floor(at).astype(np.int64)
    shape = (-1, 1) if axis == 0 else (1, -1)
    # wide, and small beside the map
    total = np.zeros(np.where(np.arange(2) == axis, size, values.shape), np.float64)
    for tap in range(-1, 3):
        weight = _kernel(np.abs(at - (before + tap))).reshape(shape)
        total += weight * values.take(np.clip(before + tap, 0, length - 1), axis)
    return total


def _kernel(distance: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    near = ((_SLOPE + 2) * distance - (_SLOPE + 3)) * distance**2 + 1
    far = _SLOPE * (((distance - 5) * distance + 8) * distance - 4)
    return np.where(distance <= 1, near, far)
