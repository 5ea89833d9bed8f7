"""Writing pixels as PNG, JPEG or WebP, with what made them in the file."""

import io
from typing import Any

from PIL import Image

from components.contract import Kind
from components.messages import ImageRequest, Pixels
from components.reference import ComponentRef
from pipeline.overlays import laid
from pipeline.story.containers import OURS
from pipeline.story.file_form import FileForm
from pipeline.story.files import jpeg_options, png_options, webp_options
from pipeline.story.origin import NOISE, Origin
from pipeline.story.record import Story
from services.messages import Encoding, Order, Pins

METADATA_KEY = OURS
# Level 6, Pillow's own, takes four times as long on photographs and saves a twentieth.
_PNG_LEVEL = 3


def describe(
    request: ImageRequest,
    pins: Pins,
    decoder: ComponentRef | None = None,
    *,
    prompts: bool = True,
    origin: Origin = NOISE,
    beside: tuple[ComponentRef, ...] = (),
) -> Story:
    """What made the one picture of a request, from what; without `prompts` nothing of its two texts.

    Where `decoder` made it and not the pinned one, `fallback_for` names the pinned one, which gave no picture. `beside`
    are the versions that the request names itself.
    """
    pinned = pins.get(Kind.VAE_DECODER)
    replaced = pinned if decoder is not None and decoder != pinned else None
    used = pins if decoder is None else {**pins, Kind.VAE_DECODER: decoder}
    story = Story.of(request, used, replaced, origin, beside)
    return story if prompts else story.without_texts()


def origin_of(order: Order) -> Origin:
    """What a story tells of the pictures that those of an order are made from; it reads all of their pixels."""
    return Origin.of(order.source, controls=order.controls, image_prompts=order.image_prompts)


def finished_picture(pixels: Pixels, order: Order, metadata: Story) -> bytes:
    """Write pixels [height, width, 3] as an order says, laid into the picture that they are a part of if they are."""
    overlay = None if order.source is None else order.source.overlay
    return encode_picture(pixels if overlay is None else laid(overlay, pixels), order.encoding, metadata)


def encode_picture(pixels: Pixels, encoding: Encoding, metadata: Story | str) -> bytes:
    """Write pixels [height, width, 3]; the same arguments give the same bytes.

    A story is written as docs/story.md says, and tells of the encoding too; a text becomes the text chunk `latentworks`
    of a PNG file, and else the EXIF image description.
    """
    out = io.BytesIO()
    if isinstance(metadata, Story):
        metadata = metadata.written_as(FileForm(output_format=encoding.format, output_compression=encoding.quality))
    Image.fromarray(pixels).save(out, **_save_options(encoding, metadata))
    return out.getvalue()


def _save_options(encoding: Encoding, metadata: Story | str) -> dict[str, Any]:
    match encoding.format:
        case "png":
            return {"format": "PNG", "compress_level": _PNG_LEVEL, **png_options(metadata)}
        case "jpeg":
            return {"format": "JPEG", "quality": encoding.quality, **jpeg_options(metadata)}
        case "webp":
            return {"format": "WEBP", "quality": encoding.quality, **webp_options(metadata)}
