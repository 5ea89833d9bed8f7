"""Checks that the bodies and queries of several faces share; every field refused is named, with its limit."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from pipeline.errors import RequestError, refuse
from services.errors import FieldError
from services.ingress.http.media_types import Wanted
from services.messages import Encoding, PictureFormat

Body = TypeVar("Body", bound=BaseModel)

_TYPES = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a whole number of fewer digits",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "string_type": "text",
    "string_unicode": "valid Unicode",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "list_type": "a list",
    "model_attributes_type": "an object",
    "model_type": "an object",
    "dict_type": "an object",
}
_LONGEST_NAME = 64
_LONGEST_USER = 256


def typed(
    model: type[Body],
    given: Mapping[str, Any],
    secret: Collection[str],
    choices: Collection[str] = (),
    *,
    texts: bool = False,
) -> Body:
    """Read a body as a model; a value of a `secret` field is not quoted, and that of a field of `choices` does things.

    With `texts` numbers and the like are written in texts, as in a form.

    Raises:
        FieldError: a field is unknown, missing or of another type.
    """
    try:
        return model.model_validate(given, strict=False if texts else None)
    except ValidationError as error:
        raise _field_error(error.errors(include_url=False)[0], model, secret, choices) from None


def one_of_each(given: Iterable[tuple[str, str]], known: Collection[str]) -> dict[str, str]:
    """A query's fields.

    Raises:
        FieldError: one is unknown, or is there twice.
    """
    found: dict[str, str] = {}
    for name, value in given:
        field = name[:_LONGEST_NAME]
        if name not in known:
            raise FieldError(f"{field!r}: no such field; there are {', '.join(known)}", field)
        if name in found:
            raise FieldError(f"{field}: is there twice", field)
        found[name] = value
    return found


def tenant_of(user: str | None) -> str:
    """Whose request it is.

    Raises:
        FieldError: the name is too long.
    """
    tenant = "" if user is None else user
    if len(tenant) > _LONGEST_USER:
        raise FieldError(f"user: has {len(tenant)} characters, must have at most {_LONGEST_USER}", "user")
    return tenant


def encoding_of(output_format: PictureFormat | None, output_compression: int | None, accept: Wanted) -> Encoding:
    """How a picture is to be written.

    Raises:
        FieldError: the fields contradict each other, or what accept asks for.
    """
    try:
        return _encoding(output_format, output_compression, accept)
    except RequestError as error:
        raise FieldError(error.message, error.field) from None


def _encoding(output_format: PictureFormat | None, output_compression: int | None, accept: Wanted) -> Encoding:
    chosen: PictureFormat = "png" if output_format is None else output_format
    if accept in ("png", "jpeg", "webp"):
        if output_format is not None and output_format != accept:
            limit = f"{accept} or left out, as accept asks for image/{accept}"
            raise refuse("output_format", output_format, limit)
        chosen = accept
    quality = 100 if output_compression is None else output_compression
    if not 0 <= quality <= 100:
        raise refuse("output_compression", quality, "a whole number between 0 and 100")
    if chosen == "png" and quality != 100:
        raise refuse("output_compression", quality, "100 or left out for png, which loses nothing")
    return Encoding(chosen, quality)


def _field_error(
    found: ErrorDetails, model: type[BaseModel], secret: Collection[str], choices: Collection[str]
) -> FieldError:
    # of a name that is not Unicode pydantic gives no place: the name is then the input
    unicode = bool(found["loc"])
    field = (_path(found["loc"]) if unicode else str(found["input"]))[:_LONGEST_NAME]
    if found["type"] == "missing":
        return FieldError(f"{field}: is required", field)
    if found["type"] == "extra_forbidden" or not unicode:
        return FieldError(f"{field!r}: no such field; there are {', '.join(_names(model))}", field)
    limit = _limit(found, choices)
    if found["loc"][0] in secret:
        return FieldError(f"{field}: is {type(found['input']).__name__}, must be {limit}", field)
    return FieldError(refuse(field, found["input"], limit).message, field)


def _names(model: type[BaseModel], before: str = "") -> list[str]:
    """The fields of a model by their dotted names, those of its parts among them."""
    names: list[str] = []
    for name, info in model.model_fields.items():
        nested, listed = _nested(info.annotation)
        names += [before + name] if nested is None else _names(nested, f"{before}{name}{'[]' if listed else ''}.")
    return names


def _nested(annotation: Any, listed: bool = False) -> tuple[type[BaseModel] | None, bool]:
    """The model of a field's type, and whether the field is a list of such."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, listed
    found = (_nested(part, listed or get_origin(annotation) is list) for part in get_args(annotation))
    return next((one for one in found if one[0] is not None), (None, False))


def _path(location: Iterable[int | str]) -> str:
    """A place in a body as errors name it: `controls[0].model`."""
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _limit(found: ErrorDetails, choices: Collection[str]) -> str:
    match found["type"]:
        case "literal_error":
            inert = "" if found["loc"][0] in choices else "; another value would do nothing here"
            return f"{found['ctx']['expected']} or left out{inert}"
        case "none_required":
            return "null or left out; it would do nothing here"
        case kind:
            return _TYPES.get(kind, "of the type that /docs says")
