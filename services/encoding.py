"""Writing pixels as PNG, JPEG or WebP, with what made them in the file."""

import io
import json
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from components.contract import Kind
from components.messages import ImageRequest, Pixels
from components.reference import ComponentRef
from services.messages import Encoding, Pins

METADATA_KEY = "latentworks"
_EXIF_IMAGE_DESCRIPTION = 0x010E
# Level 6, Pillow's own, takes four times as long on photographs and saves a twentieth.
_PNG_LEVEL = 3


def describe(request: ImageRequest, pins: Pins, decoder: ComponentRef | None = None) -> str:
    """What made the one picture of a request, as one line of JSON that goes into its file; the prompt stays out.

    Where `decoder` made it and not the pinned one, `fallback_for` names the pinned one, which gave no picture.
    """
    pinned = pins.get(Kind.VAE_DECODER)
    replaced = pinned if decoder is not None and decoder != pinned else None
    used = pins if decoder is None else {**pins, Kind.VAE_DECODER: decoder}
    return json.dumps(
        {
            "prompt_chunks": request.prompt_chunks,
            "rng": request.rng,
            "seed": request.seed,
            "subseed": request.subseed,
            "subseed_strength": request.subseed_strength,
            "steps": request.steps,
            "guidance": request.guidance,
            "guidance_rescale": request.guidance_rescale,
            "guidance_start": request.guidance_start,
            "guidance_end": request.guidance_end,
            "adaptive_guidance": request.adaptive_guidance,
            "sampler": request.sampler,
            "schedule": request.schedule,
            "eta": request.eta,
            "width": request.width,
            "height": request.height,
            "components": {kind.value: pin.model_dump() for kind, pin in used.items()},
            "fallback_for": None if replaced is None else replaced.model_dump(),
        }
    )


def encode_picture(pixels: Pixels, encoding: Encoding, metadata: str) -> bytes:
    """Write pixels [height, width, 3]; the same arguments give the same bytes.

    `metadata` becomes the text chunk `latentworks` of a PNG file, and else the EXIF image description.
    """
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, **_save_options(encoding, metadata))
    return out.getvalue()


def _save_options(encoding: Encoding, metadata: str) -> dict[str, Any]:
    if encoding.format == "png":
        text = PngInfo()
        text.add_text(METADATA_KEY, metadata)
        return {"format": "PNG", "pnginfo": text, "compress_level": _PNG_LEVEL}
    exif = Image.Exif()
    exif[_EXIF_IMAGE_DESCRIPTION] = metadata
    return {"format": encoding.format.upper(), "quality": encoding.quality, "exif": exif}
