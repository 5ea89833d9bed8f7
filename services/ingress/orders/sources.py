"""Pictures that a request brings: out of its form, and into what the pictures of its order start from."""

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Protocol

from PIL import Image

from components.messages import Source
from pipeline.edit_sources import edit_source
from pipeline.errors import RequestError
from pipeline.source_pictures import open_picture, turned_size
from services.errors import FieldError
from services.messages import Order

IMAGE = "image"
MASK = "mask"
DEPTH = "depth"
# as clients write the field of several
_NAMES = {f"{IMAGE}[]": IMAGE}
_LONGEST_NAME = 64


class Undecoded(Protocol):
    """What a request brought for its pictures to start from; nothing but its size is known yet."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the picture."""

    @property
    def editing(self) -> "Editing":
        """How to go on from it."""

    @property
    def has_mask(self) -> bool:
        """Whether a mask came too."""

    @property
    def has_depth(self) -> bool:
        """Whether a depth map came too."""

    def source(self, order: Order, most_pixels: int) -> Source:
        """What an order starts from; each picture may have at most so many pixels.

        Raises:
            RequestError: one has more, or cannot be read.
        """

    def let_go(self, source: Source) -> None:
        """Keep nothing in memory that was needed for the source alone."""


@dataclass(frozen=True, slots=True)
class Editing:
    """What a request says of the pictures that it brings, as in `RequestFields`; None takes the default."""

    strength: float | None = None
    mask_blur: float | None = None
    padding_mask_crop: int | None = None


@dataclass(slots=True, eq=False)
class Brought:
    """The pictures that came with a request, of which nothing but the size is known yet; `size` is the image's.

    `field` is what the request calls the image. They are let go of once they are decoded, with all that is `held` for
    them.
    """

    image: Image.Image | None
    mask: Image.Image | None
    size: tuple[int, int]
    editing: Editing
    held: ExitStack
    field: str = IMAGE
    depth: Image.Image | None = None

    @property
    def has_mask(self) -> bool:
        """Whether a mask came too."""
        return self.mask is not None

    @property
    def has_depth(self) -> bool:
        """Whether a depth map came too."""
        return self.depth is not None

    def source(self, order: Order, most_pixels: int) -> Source:
        """What an order starts from: the pictures in the size that it draws; each may have at most so many pixels.

        Raises:
            RequestError: one has more, or cannot be read.
        """
        assert self.image is not None, "they are decoded once"
        assert order.contract is not None, "an order that is drawn has its denoiser's contract"
        return edit_source(
            self.image, self.mask, order.request, order.contract, most_pixels, self.field, depth=self.depth
        )

    def let_go(self, source: Source) -> None:
        """Keep nothing in memory any more; what the drawn picture is laid into stays, and counts, until its end."""
        self.image = self.mask = self.depth = None
        if source.overlay is None:
            self.held.close()


def brought(
    files: Iterable[tuple[str, bytes]],
    fields: Sequence[str],
    editing: Editing,
    most_pixels: int,
    held: ExitStack,
) -> Brought:
    """The pictures of a form, of at most so many pixels each; `fields` are those that it may have besides `image`.

    Raises:
        FieldError: a file is under another name, is there twice or cannot be opened, or there is no image.
    """
    pictures: dict[str, Image.Image] = {}
    for name, data in files:
        field = _NAMES.get(name, name)
        if field not in (IMAGE, *fields):
            said = field[:_LONGEST_NAME]
            raise FieldError(f"{said!r}: no such file; there are {', '.join((IMAGE, *fields))}", said)
        if field in pictures:
            raise FieldError(f"{field}: is there twice; one picture is edited at a time", field)
        try:
            pictures[field] = open_picture(field, data, most_pixels)
        except RequestError as error:
            raise FieldError(error.message, error.field) from None
    if IMAGE not in pictures:
        raise FieldError(f"{IMAGE}: is required, and must be a file", IMAGE)
    image = pictures[IMAGE]
    try:
        size = turned_size(image)
    except RequestError as error:
        raise FieldError(error.message, error.field) from None
    return Brought(image, pictures.get(MASK), size, editing, held, depth=pictures.get(DEPTH))
