"""What a picture's file says of how it was made."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from pipeline.story.containers import read_texts
from pipeline.story.infotext_reader import read_infotext
from pipeline.story.record import Story, read_json, valid

Source: TypeAlias = Literal["latentworks", "a1111", "nothing"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A picture's story, None where its file tells none.

    `source` is whose form it was read from: our JSON, an infotext as A1111 writes it, or neither. `parameters` is the
    infotext as it stands in the file. `unknown` are the parts that were not understood, each cut to 200 characters.
    """

    source: Source
    story: Story | None = None
    parameters: str | None = None
    unknown: tuple[str, ...] = ()


def read_story(data: bytes) -> Reading:
    """Read the story of a PNG, JPEG or WebP file: ours, where it has one, else what its infotext says.

    No pixel is decoded; a file that is cut or damaged is read as far as it goes. Texts over 1 MiB are not read.

    Raises:
        RequestError: it is longer than 32 MiB, or no such file.
    """
    texts = read_texts(data)
    infotext = None if texts.infotext is None else valid(texts.infotext)
    unknown = texts.unreadable
    told = None if texts.ours is None else read_json(texts.ours, infotext)
    if told is not None:
        return Reading(source="latentworks", story=told.story, parameters=infotext, unknown=(*unknown, *told.unknown))
    told = None if infotext is None else read_infotext(infotext)
    if told is not None:
        return Reading(source="a1111", story=told.story, parameters=infotext, unknown=(*unknown, *told.unknown))
    return Reading(source="nothing", parameters=infotext, unknown=unknown)
