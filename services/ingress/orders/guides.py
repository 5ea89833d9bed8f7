"""What a request brings to guide its pictures: control pictures, taken out of its body."""

import re
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TypeVar

from PIL import Image

from components.messages import ControlChoice, Pixels
from pipeline.controls import ControlFields, check_controls
from pipeline.errors import RequestError
from pipeline.request import RequestRules
from pipeline.source_pictures import image_pixels, open_picture
from services.errors import FieldError
from services.ingress.wire.encoded_pictures import file_of_text
from services.ingress.wire.requests import ControlBody, GenerationBody
from services.messages import Order

Body = TypeVar("Body", bound=GenerationBody)

# a form's files of what guides its pictures
GUIDING = re.compile(r"controls\[[0-9]{1,4}\]\[image\]")


@dataclass(slots=True, eq=False)
class Guides:
    """How pictures hold what is drawn, and the pictures, of which nothing but the size is known yet.

    What they are for is named as the request names it. The pictures are let go of once they are decoded, with all that
    is `held` for them.
    """

    choices: tuple[ControlChoice, ...] = ()
    pictures: tuple[Image.Image, ...] = ()
    held: ExitStack = field(default_factory=ExitStack)

    def __bool__(self) -> bool:
        """Whether there is anything."""
        return bool(self.choices)

    @property
    def fields(self) -> tuple[str, ...]:
        """How a body's fields of the pictures are called."""
        return tuple(image_field(number) for number in range(len(self.choices)))

    def pixels(self, order: Order, most: int) -> tuple[Pixels, ...]:
        """The pictures in the size that an order draws; each may have at most so many pixels.

        Raises:
            RequestError: one has more, or cannot be read.
        """
        size = (order.request.width, order.request.height)
        return tuple(
            image_pixels(picture, *size, most, image_field(number)) for number, picture in enumerate(self.pictures)
        )

    def let_go(self) -> None:
        """Keep nothing in memory any more."""
        self.pictures = ()
        self.held.close()


def image_field(number: int) -> str:
    """How a body's field of a control picture is called."""
    return f"controls[{number}].image"


def file_field(number: int) -> str:
    """How a form's file of a control picture is called."""
    return f"controls[{number}][image]"


def taken_out(
    body: Body, rules: RequestRules, held: ExitStack, files: Mapping[str, bytes] | None = None
) -> tuple[Body, Guides]:
    """A body without its pictures, and what they are; `files` are those of its form, by their fields.

    What stays of a picture in the body is a digest, which tells it from others that come with one idempotency key.

    Raises:
        FieldError: there are more than a request may have, one is none that `open_picture` opens, or has too many
            pixels, or what is said of it is outside its limits.
    """
    given = [] if body.controls is None else body.controls
    try:
        checked = check_controls([ControlFields(scale=one.scale, start=one.start, end=one.end) for one in given], rules)
        choices, pictures, shown = [], [], []
        for number, (one, how) in enumerate(zip(given, checked, strict=True)):
            data = _file(one, number, files or {})
            pictures.append(open_picture(image_field(number), data, rules.max_source_pixels))
            choices.append(ControlChoice(model=one.model, scale=how.scale, start=how.start, end=how.end))
            shown.append(one.model_copy(update={"image": digest_text(data)}))
    except RequestError as error:
        raise FieldError(error.message, error.field) from None
    guides = Guides(tuple(choices), tuple(pictures), held)
    if not guides:
        held.close()
        return body, guides
    return body.model_copy(update={"controls": shown}), guides


def digest_text(data: bytes) -> str:
    """What stands for a picture's file in a body that it was taken out of."""
    return f"sha256:{sha256(data).hexdigest()}"


def _file(one: ControlBody, number: int, files: Mapping[str, bytes]) -> bytes:
    field = file_field(number)
    return files[field] if field in files else file_of_text(image_field(number), one.image)
