"""How far away things are, as a denoiser that sees depth looks at it."""

import numpy as np
from PIL import Image

from components.messages import FloatArray
from diffusion.interpolation import resized
from pipeline.errors import refuse
from pipeline.source_pictures import grey_values

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
    # Pillow's cubic convolution has another slope, and smooths where it makes smaller
    plane = resized(values, (height, width), "bicubic")
    lowest, span = plane.min(), plane.max() - plane.min()
    if greatest == least or span <= _FLAT * (greatest - least):
        raise refuse("depth", "one value", "a picture of several, in the size that is drawn")
    normal = 2 * (plane - lowest) / span - 1
    return np.ascontiguousarray(normal[np.newaxis, np.newaxis], np.float32)
