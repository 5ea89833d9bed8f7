"""What a request brings to guide its pictures: control pictures and pictures to be like, taken out of its body."""

import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TypeVar

from PIL import Image

from components.contract import Preprocessing
from components.messages import ControlChoice, Pixels
from pipeline.controls import ControlFields, check_controls
from pipeline.errors import RequestError, refuse
from pipeline.image_encoder import square
from pipeline.request import RequestRules
from pipeline.source_pictures import image_pixels, open_picture
from services.errors import FieldError
from services.ingress.wire.encoded_pictures import file_of_text
from services.ingress.wire.requests import ControlBody, GenerationBody
from services.messages import Order

Body = TypeVar("Body", bound=GenerationBody)

IMAGE_PROMPTS = "image_prompts"
# a form's files of what guides its pictures
GUIDING = re.compile(r"controls\[[0-9]{1,4}\]\[image\]|image_prompts\[[0-9]{1,4}\]")


@dataclass(slots=True, eq=False)
class Guides:
    """How pictures hold what is drawn, and the pictures, of which nothing but the size is known yet.

    What they are for is named as the request names it. `image_prompts` are what it is to be like. The pictures are let
    go of once they are decoded, with all that is `held` for them.
    """

    choices: tuple[ControlChoice, ...] = ()
    pictures: tuple[Image.Image, ...] = ()
    image_prompts: tuple[Image.Image, ...] = ()
    held: ExitStack = field(default_factory=ExitStack)

    def __bool__(self) -> bool:
        """Whether there is anything."""
        return bool(self.choices or self.fields)

    @property
    def fields(self) -> tuple[str, ...]:
        """How a body's fields of the pictures are called."""
        controls = (image_field(number) for number in range(len(self.pictures)))
        return (*controls, *(prompt_field(number) for number in range(len(self.image_prompts))))

    def pixels(self, order: Order, most: int) -> tuple[Pixels, ...]:
        """The pictures in the size that an order draws; each may have at most so many pixels.

        Raises:
            RequestError: one has more, or cannot be read.
        """
        size = (order.request.width, order.request.height)
        return tuple(
            image_pixels(picture, *size, most, image_field(number)) for number, picture in enumerate(self.pictures)
        )

    def squares(self, how: Preprocessing, most: int) -> tuple[Pixels, ...]:
        """The pictures to be like, as an image encoder sees them; each may have at most so many pixels.

        Raises:
            RequestError: one has more, or cannot be read.
        """
        return tuple(
            square(picture, how, most, prompt_field(number)) for number, picture in enumerate(self.image_prompts)
        )

    def let_go(self) -> None:
        """Keep nothing in memory any more."""
        self.pictures = self.image_prompts = ()
        self.held.close()


def image_field(number: int) -> str:
    """How a body's field of a control picture is called."""
    return f"controls[{number}].image"


def prompt_field(number: int) -> str:
    """How a body's field of a picture to be like is called, and a form's file of it."""
    return f"{IMAGE_PROMPTS}[{number}]"


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
        prompts, said = _image_prompts(body.image_prompts or [], rules, files or {})
    except RequestError as error:
        raise FieldError(error.message, error.field) from None
    guides = Guides(tuple(choices), tuple(pictures), prompts, held)
    if not guides:
        held.close()
        return body, guides
    return body.model_copy(update={"controls": shown or None, "image_prompts": said or None}), guides


def _image_prompts(
    given: Sequence[str], rules: RequestRules, files: Mapping[str, bytes]
) -> tuple[tuple[Image.Image, ...], list[str]]:
    """The pictures, and what stands for them."""
    if len(given) > rules.max_image_prompts:
        raise refuse(IMAGE_PROMPTS, f"{len(given)} pictures", f"at most {rules.max_image_prompts}")
    pictures, said = [], []
    for number, text in enumerate(given):
        field = prompt_field(number)
        data = files[field] if field in files else file_of_text(field, text)
        pictures.append(open_picture(field, data, rules.max_source_pixels))
        said.append(digest_text(data))
    return tuple(pictures), said


def digest_text(data: bytes) -> str:
    """What stands for a picture's file in a body that it was taken out of."""
    return f"sha256:{sha256(data).hexdigest()}"


def _file(one: ControlBody, number: int, files: Mapping[str, bytes]) -> bytes:
    field = file_field(number)
    return files[field] if field in files else file_of_text(image_field(number), one.image)
