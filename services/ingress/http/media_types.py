"""What kind of answer a caller asks for in its Accept header."""

from collections.abc import Mapping
from typing import Literal

from services.errors import NotAcceptableError
from services.messages import PictureFormat

Wanted = PictureFormat | Literal["json", "any picture"]

EVENTS_TYPE = "text/event-stream"
MEDIA_TYPES: dict[PictureFormat, str] = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp"}
_JSON: dict[str, Wanted] = {"application/json": "json", "application/*": "json", "*/*": "json"}
_WANTED: dict[str, Wanted] = {
    **_JSON,
    "image/png": "png",
    "image/jpeg": "jpeg",
    "image/webp": "webp",
    "image/*": "any picture",
}
# OpenAI's clients say JSON here too
_STREAMED: dict[str, Wanted] = {**_JSON, EVENTS_TYPE: "json", "text/*": "json"}


def wanted(accept: str | None, *, stream: bool = False) -> Wanted:
    """The best of what an Accept header lists; JSON where there is none, for `*/*`, and for a stream of events.

    Raises:
        NotAcceptableError: it lists nothing that this server makes, or makes as a stream.
    """
    if stream:
        return _best(accept, _STREAMED, f"{EVENTS_TYPE}, application/json where stream is true")
    return _best(accept, _WANTED, f"application/json, {', '.join(MEDIA_TYPES.values())}")


def _best(accept: str | None, known: Mapping[str, Wanted], limit: str) -> Wanted:
    if accept is None or not accept.strip():
        return "json"
    ranges = [_read(part) for part in accept.split(",")]
    ranked = sorted((quality, -index, name) for index, (name, quality) in enumerate(ranges) if quality > 0)
    for _quality, _index, name in reversed(ranked):
        if name in known:
            return known[name]
    raise NotAcceptableError(f"accept: must name one of {limit}")


def _read(part: str) -> tuple[str, float]:
    name, *parameters = (piece.strip().lower() for piece in part.split(";"))
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                return name, float(parameter.removeprefix("q="))
            except ValueError:
                return name, 0.0
    return name, 1.0
