"""What the faces that make pictures answer, and the errors that they all may."""

import base64
from collections.abc import Iterable
from time import time
from typing import Any

from components.contract import Kind
from components.reference import ComponentRef
from services.ingress.media_types import MEDIA_TYPES
from services.ingress.schemas import ComponentPin, ErrorAnswer, GeneratedImage, GenerationAnswer
from services.messages import Drawn, Order, Picture

ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": ErrorAnswer, "description": "the body is no JSON object"},
    404: {"model": ErrorAnswer, "description": "no such model, or no such latents"},
    406: {"model": ErrorAnswer, "description": "accept names nothing that can be given"},
    413: {"model": ErrorAnswer, "description": "the body is too long"},
    415: {"model": ErrorAnswer, "description": "the body is not application/json"},
    422: {"model": ErrorAnswer, "description": "a field is unknown or outside its limits"},
    429: {"model": ErrorAnswer, "description": "too much waits; retry-after says how long to wait"},
    500: {"model": ErrorAnswer, "description": "something failed on our side"},
    503: {"model": ErrorAnswer, "description": "a part of the server is not there just now"},
    504: {"model": ErrorAnswer, "description": "deadline_s has passed, or would before the pictures are done"},
}
PICTURE = {"schema": {"type": "string", "format": "binary"}}
ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "model": GenerationAnswer,
        "description": "JSON, or the picture itself where accept asks for it",
        "content": dict.fromkeys(MEDIA_TYPES.values(), PICTURE),
    },
    **ERRORS,
}


def pins_text(pins: Iterable[tuple[Kind, ComponentRef]]) -> str:
    """Exact versions as a header says them."""
    return ", ".join(f"{kind}={pin};sha256={pin.sha256}" for kind, pin in pins)


def headers_of(order: Order, drawn: Drawn) -> dict[str, str]:
    """What an answer says beside its body."""
    truncated = drawn.prompt_truncated or drawn.negative_prompt_truncated
    varied = {} if order.request.subseed is None else {"x-subseed": str(order.request.subseed)}
    fallbacks = sorted({str(ref) for one in drawn.pictures if (ref := _fallback(order, one)) is not None})
    fallback = {"x-fallback": ", ".join(fallbacks)} if fallbacks else {}
    kept = [one.latents for one in drawn.pictures if one.latents is not None]
    latents = {"x-latents": ", ".join(kept)} if kept else {}
    return {
        "x-seed": str(order.request.seed),
        **varied,
        **fallback,
        **latents,
        "x-component-versions": pins_text(order.pins.items()),
        "x-truncated": "true" if truncated else "false",
    }


def answer_of(order: Order, drawn: Drawn, bundle: str) -> GenerationAnswer:
    """The pictures and what made them, as JSON has it."""
    request = order.request
    images = [
        GeneratedImage(
            b64_json=base64.b64encode(one.data).decode(),
            seed=one.seed,
            subseed=one.subseed,
            fallback=None if (ref := _fallback(order, one)) is None else pin_of(ref),
            latents=one.latents,
        )
        for one in drawn.pictures
    ]
    return GenerationAnswer(
        created=int(time()),
        data=images,
        model=bundle,
        output_format=order.encoding.format,
        size=f"{request.width}x{request.height}",
        seed=request.seed,
        prompt_truncated=drawn.prompt_truncated,
        negative_prompt_truncated=drawn.negative_prompt_truncated,
        components={kind.value: pin_of(pin) for kind, pin in order.pins.items()},
    )


def pin_of(ref: ComponentRef) -> ComponentPin:
    """An exact version as JSON has it."""
    return ComponentPin(**ref.model_dump())


def _fallback(order: Order, picture: Picture) -> ComponentRef | None:
    """The version that made a picture where the pinned one gave none."""
    return None if picture.decoder in (None, order.pins[Kind.VAE_DECODER]) else picture.decoder
