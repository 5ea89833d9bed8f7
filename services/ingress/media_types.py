"""What kind of answer a caller asks for in its Accept header."""

from typing import Literal

from services.errors import NotAcceptableError
from services.messages import PictureFormat

Wanted = PictureFormat | Literal["json", "any picture"]

MEDIA_TYPES: dict[PictureFormat, str] = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp"}
_WANTED: dict[str, Wanted] = {
    "application/json": "json",
    "application/*": "json",
    "*/*": "json",
    "image/png": "png",
    "image/jpeg": "jpeg",
    "image/webp": "webp",
    "image/*": "any picture",
}


def wanted(accept: str | None) -> Wanted:
    """The best of what an Accept header lists; JSON where there is none, and for `*/*`.

    Raises:
        NotAcceptableError: it lists nothing that this server makes.
    """
    if accept is None or not accept.strip():
        return "json"
    ranges = [_read(part) for part in accept.split(",")]
    ranked = sorted((quality, -index, name) for index, (name, quality) in enumerate(ranges) if quality > 0)
    for _quality, _index, name in reversed(ranked):
        if name in _WANTED:
            return _WANTED[name]
    raise NotAcceptableError(f"accept: must name one of application/json, {', '.join(MEDIA_TYPES.values())}")


def _read(part: str) -> tuple[str, float]:
    name, *parameters = (piece.strip().lower() for piece in part.split(";"))
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                return name, float(parameter.removeprefix("q="))
            except ValueError:
                return name, 0.0
    return name, 1.0
