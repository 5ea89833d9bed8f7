"""Stories written into files: what Pillow's `save` has to be given."""

from collections.abc import Iterator
from typing import Any

from PIL.PngImagePlugin import PngInfo

from pipeline.story.containers import INFOTEXT, OURS
from pipeline.story.exif import ExifTexts, exif_of
from pipeline.story.infotext import infotext
from pipeline.story.record import Story

# what a segment of a JPEG file holds beside its own length; ISO 10918-1, B.2.4
_MOST_JPEG_EXIF = 2**16 - 1 - 2


def png_options(story: Story | str) -> dict[str, Any]:
    """Options of a PNG file: the texts `latentworks`, our JSON, and `parameters`, the infotext.

    A text in place of a story becomes `latentworks` alone, in the other formats too.
    """
    texts = PngInfo()
    texts.add_text(OURS, story if isinstance(story, str) else story.to_json())
    if isinstance(story, Story):
        texts.add_text(INFOTEXT, infotext(story))
    return {"pnginfo": texts}


def webp_options(story: Story | str) -> dict[str, Any]:
    """Options of a WebP file: our JSON as EXIF's image description, the infotext as its user comment."""
    return {"exif": exif_of(next(_forms(story)))}


def jpeg_options(story: Story | str) -> dict[str, Any]:
    """Options of a JPEG file, as of WebP. But its EXIF has 65,533 bytes at most.

    Where the texts have no room twice the JSON tells their numbers of characters in place of them, and they are in the
    infotext alone; where they have none there either they are in neither.
    """
    for texts in _forms(story):
        exif = exif_of(texts)
        if len(exif) <= _MOST_JPEG_EXIF:
            break
    return {"exif": exif}


def _forms(story: Story | str) -> Iterator[ExifTexts]:
    """What may be written, from the whole to the least."""
    if isinstance(story, str):
        yield ExifTexts(story)
        return
    yield ExifTexts(story.to_json(), infotext(story))
    yield ExifTexts(story.to_json(texts=False), infotext(story))
    least = story.without_texts()
    yield ExifTexts(least.to_json(), infotext(least))
