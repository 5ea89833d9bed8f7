"""How a picture's file was written, as its story tells it."""

from typing import Literal

from pydantic import Field

from components.record import Record


class FileForm(Record):
    """The format and its compression, 0..100, by the names that a request has for them; 100 for png."""

    output_format: Literal["png", "jpeg", "webp"]
    output_compression: int = Field(ge=0, le=100)
