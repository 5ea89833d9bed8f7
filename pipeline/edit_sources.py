"""What the pictures of a request start from, where it brings one and perhaps a mask."""

import numpy as np
from PIL import Image

from components.contract import Contract
from components.messages import ImageRequest, Mask, Overlay, Source
from pipeline.depth import depth_plane
from pipeline.fitting import Fit, fitted
from pipeline.masks import blurred
from pipeline.overlays import part_of
from pipeline.picture_size import source_size
from pipeline.source_pictures import edit_mask, image_pixels, latent_mask, light_part, mask_picture, turned_size


def edit_source(
    image: Image.Image,
    mask: Image.Image | None,
    request: ImageRequest,
    contract: Contract,
    most: int,
    field: str = "image",
    *,
    depth: Image.Image | None = None,
) -> Source:
    """The pictures that a checked request brings, in the size that the denoiser of a contract draws.

    `field` is what the request calls its `image`. With `padding_mask_crop` they are what lies around what the mask
    leaves to draw, and there is an overlay, into which a drawn picture is laid back.

    Raises:
        RequestError: a picture has more than `most` pixels, which is seen before it is decoded, or cannot be read, or
            such a mask leaves nothing to draw.
    """
    size = source_size(request, contract)
    assert contract.latent_space is not None, "a denoiser's contract has one"
    downscale = contract.latent_space.downscale
    anew: Mask | None = None
    overlay: Overlay | None = None
    if mask is None or request.padding_mask_crop is None:
        pixels = image_pixels(image, *size, most, field)
        anew = None if mask is None else edit_mask(mask, *size, most, request.mask_blur)
    else:
        whole = Image.fromarray(image_pixels(image, *turned_size(image, field), most, field)[0])
        shown = mask_picture(mask, most)
        # blurred in its own pixels, as without a crop
        shown = fitted(blurred(shown, (request.mask_blur,) * 2), whole.size, Fit.STRETCH)
        part, within, overlay = part_of(whole, shown, request.padding_mask_crop, size)
        pixels, anew = np.asarray(part)[np.newaxis], light_part(within)
    near = None if depth is None else depth_plane(depth, size[0] // downscale, size[1] // downscale, most)
    hidden = anew if contract.sees_mask else None
    return Source(pixels, None if anew is None else latent_mask(anew, downscale), hidden, near, overlay)
