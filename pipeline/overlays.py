"""Drawn pictures laid into those that they are a part of."""

import numpy as np
from PIL import Image

from components.messages import Overlay, Pixels
from pipeline.fitting import Fit, fitted


def laid(overlay: Overlay, drawn: Pixels) -> Pixels:
    """The pixels [height, width, 3] of a whole picture, with those that were `drawn` of a part of it in their place.

    VaeImageProcessor.apply_overlay in diffusers, but for the rounding of what is half transparent.
    """
    left, top, right, bottom = overlay.box
    picture = Image.fromarray(overlay.picture)
    whole = picture.copy()
    whole.paste(fitted(Image.fromarray(drawn), (right - left, bottom - top), Fit.CROP), (left, top))
    return np.asarray(Image.composite(whole, picture, Image.fromarray(overlay.mask)))
