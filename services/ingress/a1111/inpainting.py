"""Image to image as A1111 prepares it: the picture fitted, what its mask says, and what the drawn part is laid into."""

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Self

import numpy as np
from PIL import Image, ImageOps

from components.messages import Overlay, Pixels, Source
from pipeline.checks import check_whole
from pipeline.errors import RequestError
from pipeline.fitting import Fit, fitted
from pipeline.masks import MOST_BLUR, MOST_PADDING, blurred
from pipeline.overlays import part_of
from pipeline.picture_size import source_size
from pipeline.source_pictures import light_part, turned_size
from services.errors import FieldError
from services.ingress.a1111.errors import InitImageNotFoundError
from services.ingress.a1111.masks import doubled, filled, latents_of
from services.ingress.a1111.pictures import encoded_picture, mask_of, rgb
from services.ingress.a1111.schemas import Img2ImgBody
from services.ingress.a1111.translation import strength_of
from services.ingress.orders.sources import Editing
from services.messages import Order

_BLUR = 4
_FITS = (Fit.STRETCH, Fit.CROP, Fit.FILL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Preparation:
    """What becomes of a picture and its mask.

    `fit` brings both to the size that is drawn. The mask is `inverted` perhaps, then blurred by a Gaussian whose
    deviations are the pixels `blur`, across and down. With `only_masked` what lies around it with `padding` pixels is
    drawn in the whole size. `filled` takes the colours within the mask from around it.
    """

    fit: Fit
    inverted: bool
    blur: tuple[int, int]
    only_masked: bool
    padding: int
    filled: bool

    @classmethod
    def of(cls, body: Img2ImgBody) -> Self:
        """What a body asks for.

        Raises:
            FieldError: a field has a value outside its limits.
        """
        blur = [
            _BLUR if side is None else side
            for side in ((body.mask_blur_x, body.mask_blur_y) if body.mask_blur is None else (body.mask_blur,) * 2)
        ]
        names = ("mask_blur_x", "mask_blur_y") if body.mask_blur is None else ("mask_blur",) * 2
        padding = 0 if body.inpaint_full_res_padding is None else body.inpaint_full_res_padding
        try:
            for name, side in zip(names, blur, strict=True):
                check_whole(name, side, 0, MOST_BLUR)
            check_whole("inpaint_full_res_padding", padding, 0, MOST_PADDING)
        except RequestError as error:
            raise FieldError(error.message, error.field) from None
        return cls(
            fit=_FITS[0 if body.resize_mode is None else body.resize_mode],
            inverted=bool(body.inpainting_mask_invert),
            blur=(blur[0], blur[1]),
            # null is the default too
            only_masked=body.inpaint_full_res is not False,
            padding=padding,
            filled=body.inpainting_fill != 1,
        )


@dataclass(slots=True, eq=False)
class InitImage:
    """The picture of an image to image request and its mask, if it has one.

    What is `held` for them is let go of with them, where nothing stays in memory that the drawn picture is laid into.
    """

    picture: Image.Image | None
    mask: Image.Image | None
    size: tuple[int, int]
    editing: Editing
    preparation: Preparation
    has_mask: bool
    held: ExitStack

    @classmethod
    def of(cls, body: Img2ImgBody, held: ExitStack, most_pixels: int) -> Self:
        """The pictures of a body, of at most so many pixels each, of which nothing but the size is known yet.

        Raises:
            InitImageNotFoundError: there is none.
            FieldError: there are several, or a field has a value outside its limits.
            EncodedImageError: one is no picture.
        """
        given = body.init_images
        if not given:
            raise InitImageNotFoundError("init_images: is required, and must hold a picture in base64", "init_images")
        if len(given) > 1:
            raise FieldError(f"init_images: has {len(given)} pictures, must have one", "init_images")
        preparation = Preparation.of(body)
        picture = encoded_picture("init_images", given[0], most_pixels)
        mask = encoded_picture("mask", body.mask, most_pixels) if body.mask else None
        try:
            size = turned_size(picture)
        except RequestError as error:
            raise FieldError(error.message, "init_images") from None
        return cls(picture, mask, size, Editing(strength_of(body)), preparation, mask is not None, held)

    @property
    def has_depth(self) -> bool:
        """A1111's face takes no depth map."""
        return False

    def source(self, order: Order, most_pixels: int) -> Source:
        """What an order starts from.

        Raises:
            RequestError: a picture has more than `most_pixels`, cannot be read, or the mask leaves nothing to draw.
        """
        assert self.picture is not None, "they are decoded once"
        assert order.contract is not None, "an order that is drawn has its denoiser's contract"
        assert order.contract.latent_space is not None, "a denoiser's contract has one"
        size = source_size(order.request, order.contract)
        picture = rgb(self.picture, most_pixels)
        if self.mask is None:
            return Source(_pixels(fitted(picture, size, self.preparation.fit)))
        plan = self.preparation
        mask = mask_of(self.mask, most_pixels).resize(picture.size)
        mask = blurred(ImageOps.invert(mask) if plan.inverted else mask, plan.blur)
        picture, mask, overlay = _masked(plan, picture, mask, size)
        anew = latents_of(mask, order.contract.latent_space.downscale)
        if not anew.any():
            raise RequestError("mask", "mask: leaves nothing to draw; it must be light somewhere")
        hidden = light_part(mask) if order.contract.sees_mask else None
        return Source(_pixels(filled(picture, mask) if plan.filled else picture), anew, hidden, overlay=overlay)

    def let_go(self, source: Source) -> None:
        """Keep nothing in memory but what the drawn picture is laid into."""
        self.picture = self.mask = None
        if source.overlay is None:
            self.held.close()


def _masked(
    preparation: Preparation, picture: Image.Image, mask: Image.Image, size: tuple[int, int]
) -> tuple[Image.Image, Image.Image, Overlay]:
    """Picture and mask in the size that is drawn, and what comes of the drawn picture."""
    if preparation.only_masked:
        return part_of(picture, mask, preparation.padding, size)
    picture, mask = (fitted(one, size, preparation.fit) for one in (picture, mask))
    # as A1111 has it where the whole picture is drawn
    return picture, mask, Overlay(np.asarray(picture), np.asarray(doubled(mask)), (0, 0, *size))


def _pixels(picture: Image.Image) -> Pixels:
    return np.asarray(picture)[np.newaxis]
