"""Stories and pictures for the tests of this room."""

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from hypothesis import strategies as st
from PIL import Image

from components.contract import Kind
from components.reference import ComponentRef
from pipeline.story.files import jpeg_options, png_options, webp_options
from pipeline.story.record import Story
from tests.requests import image_request

FORMATS = ("PNG", "JPEG", "WEBP")
PINS: Mapping[Kind, ComponentRef] = {
    kind: ComponentRef(name=f"toy.{kind}", version=number, sha256=f"{number:x}" * 64)
    for number, kind in enumerate((Kind.TEXT_ENCODER, Kind.DENOISER, Kind.VAE_DECODER, Kind.VAE_ENCODER), 3)
}
# an infotext's own lines, characters outside Latin-1 and outside the basic plane, quotes, whitespace at the ends
HARD = (
    " a (red:1.2) äpple, \N{RED APPLE} 漢字\nNegative prompt: not this\nSteps: 4, Sampler: DDIM, Seed: 9, Size: 8x8\n",
    'Negative prompt: "quoted", \\n\r\nSteps: 5, Seed: 2, Size: 9x9\u2028 ',
)
# what a request may hold: no NUL and no lone surrogate
prompts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=60)


def story(fallback_for: ComponentRef | None = None, **settings: Any) -> Story:
    return Story.of(image_request(**settings), PINS, fallback_for)


def picture(told: Story | str, form: str = "PNG", **more: Any) -> bytes:
    options = {"PNG": png_options, "JPEG": jpeg_options, "WEBP": webp_options}[form]
    pixels = np.random.default_rng(0).integers(0, 256, (16, 24, 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, **{"format": form, **options(told), **more})
    return out.getvalue()
