"""What the faces that make pictures answer, and the errors that they all may."""

import base64
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from time import time
from typing import Any

from components.contract import Kind
from components.reference import ComponentRef
from services.ingress.http.media_types import EVENTS_TYPE, MEDIA_TYPES
from services.ingress.wire.schemas import (
    CompletedEvent,
    ComponentPin,
    ErrorAnswer,
    GeneratedImage,
    GenerationAnswer,
    InputTokens,
    OutputTokens,
    PartialImageEvent,
    ProgressEvent,
    QueuedEvent,
    StageTimings,
    Usage,
)
from services.messages import Drawn, Order, Picture, ToldQuality

ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": ErrorAnswer, "description": "the body is no JSON object"},
    404: {"model": ErrorAnswer, "description": "no such model, or no such latents"},
    406: {"model": ErrorAnswer, "description": "accept names nothing that can be given"},
    408: {"model": ErrorAnswer, "description": "the body did not come in time"},
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
EVENTS = (PartialImageEvent, CompletedEvent, ProgressEvent, QueuedEvent, ErrorAnswer)
STREAMED = {
    EVENTS_TYPE: {"schema": {"oneOf": [{"$ref": f"#/components/schemas/{one.__name__}"} for one in EVENTS]}},
}


def pins_text(pins: Iterable[tuple[Kind, ComponentRef]]) -> str:
    """Exact versions as a header says them."""
    return ", ".join(f"{kind}={pin};sha256={pin.sha256}" for kind, pin in pins)


def headers_of(order: Order, drawn: Drawn) -> dict[str, str]:
    """What an answer says beside its body."""
    truncated = drawn.prompt_truncated or drawn.negative_prompt_truncated
    fallbacks = sorted({str(ref) for one in drawn.pictures if (ref := fallback_of(order, one)) is not None})
    fallback = {"x-fallback": ", ".join(fallbacks)} if fallbacks else {}
    kept = [one.latents for one in drawn.pictures if one.latents is not None]
    latents = {"x-latents": ", ".join(kept)} if kept else {}
    return {
        **first_headers_of(order),
        **fallback,
        **latents,
        **_server_timing(drawn),
        "x-truncated": "true" if truncated else "false",
    }


def first_headers_of(order: Order) -> dict[str, str]:
    """What of `headers_of` is known before anything is drawn."""
    varied = {} if order.request.subseed is None else {"x-subseed": str(order.request.subseed)}
    return {
        "x-seed": str(order.request.seed),
        **varied,
        "x-component-versions": pins_text(order.pins.items()),
    }


def timings_of(picture: Picture) -> StageTimings | None:
    """Where a picture's time went, as JSON has it."""
    return None if picture.times is None else StageTimings(**asdict(picture.times))


def _server_timing(drawn: Drawn) -> dict[str, str]:
    """The stages of the picture that came last, as browsers show them (W3C Server Timing, milliseconds)."""
    times = max(
        (one.times for one in drawn.pictures if one.times is not None), key=lambda one: one.total_s, default=None
    )
    if times is None:
        return {}
    told = {name.removesuffix("_s"): seconds for name, seconds in asdict(times).items() if seconds is not None}
    return {"server-timing": ", ".join(f"{name};dur={1000 * seconds:.1f}" for name, seconds in told.items())}


def answer_of(
    order: Order,
    drawn: Drawn,
    bundle: str,
    quality: ToldQuality | None = None,
    urls: Sequence[str] | None = None,
) -> GenerationAnswer:
    """The pictures and what made them, as JSON has it; with `urls` these stand in for the pictures."""
    request = order.request
    images = [
        GeneratedImage(
            b64_json=base64.b64encode(one.data).decode() if urls is None else None,
            url=None if urls is None else urls[index],
            seed=one.seed,
            subseed=one.subseed,
            fallback=None if (ref := fallback_of(order, one)) is None else pin_of(ref),
            latents=one.latents,
            timings=timings_of(one),
        )
        for index, one in enumerate(drawn.pictures)
    ]
    return GenerationAnswer(
        created=int(time()),
        data=images,
        model=bundle,
        output_format=order.encoding.format,
        size=size_of(order),
        quality=quality,
        usage=usage_of(order, drawn.text_tokens, len(drawn.pictures)),
        seed=request.seed,
        prompt_truncated=drawn.prompt_truncated,
        negative_prompt_truncated=drawn.negative_prompt_truncated,
        components={kind.value: pin_of(pin) for kind, pin in order.pins.items()},
        beside=[pin_of(pin) for pin in order.beside],
    )


def size_of(order: Order) -> str:
    """A picture's size as OpenAI writes it."""
    width, height = order.size
    return f"{width}x{height}"


def usage_of(order: Order, text_tokens: int, pictures: int) -> Usage | None:
    """What so many pictures of an order took; None where no text was read for them."""
    space = None if order.contract is None else order.contract.latent_space
    if space is None:
        return None
    side = space.downscale
    image_tokens = pictures * (order.request.width // side) * (order.request.height // side)
    return Usage(
        input_tokens=text_tokens,
        output_tokens=image_tokens,
        total_tokens=text_tokens + image_tokens,
        input_tokens_details=InputTokens(text_tokens=text_tokens, image_tokens=0),
        output_tokens_details=OutputTokens(image_tokens=image_tokens),
    )


def pin_of(ref: ComponentRef) -> ComponentPin:
    """An exact version as JSON has it."""
    return ComponentPin(**ref.model_dump())


def fallback_of(order: Order, picture: Picture) -> ComponentRef | None:
    """The version that made a picture where the pinned one gave none."""
    return None if picture.decoder in (None, order.pins[Kind.VAE_DECODER]) else picture.decoder
