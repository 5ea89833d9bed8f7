"""From a body's JSON object to a checked request: every field refused is named, with its value and its limit."""

import re
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from components.contract import Kind
from components.messages import ImageRequest
from pipeline.errors import RequestError, refuse
from pipeline.request import RequestFields, RequestRules, check_request
from services.errors import FieldError, UnknownModelError
from services.ingress.media_types import Wanted
from services.ingress.schemas import GenerationBody
from services.messages import Encoding, LiveModel, Order, PictureFormat, Terms

_SIZE = re.compile(r"([0-9]{1,9})x([0-9]{1,9})")
_PARAMS = {"width": "size", "height": "size"}
_TYPES = {
    "int_type": "a whole number",
    "float_type": "a number",
    "string_type": "text",
    "string_unicode": "valid Unicode",
    "bool_type": "true or false",
}
_SECRET = {"prompt", "negative_prompt", "user"}
# fields of a few values each of which does something
_CHOICES = {"output_format", "priority"}
_LONGEST_NAME = 64
_LONGEST_USER = 256
_LONGEST_DEADLINE_S = 86_400


@dataclass(frozen=True, slots=True)
class Admissible:
    """An order that passed every check, and the form of its answer."""

    order: Order
    raw: bool


def check_body(given: dict[str, Any], accept: Wanted, live: LiveModel, rules: RequestRules) -> Admissible:
    """Turn a body and the kind of answer asked for into an order.

    Raises:
        FieldError: a field is unknown, or has a value outside its limits.
        UnknownModelError: the model is not served.
    """
    body = _typed(given)
    if body.model is not None and body.model != live.bundle:
        raise UnknownModelError(f"model={body.model[:_LONGEST_NAME]!r}: must be {live.bundle!r}", "model")
    try:
        encoding = _encoding(body, accept)
        request = _request(body, live, rules)
        terms = _terms(body)
    except RequestError as error:
        raise FieldError(error.message, _PARAMS.get(error.field, error.field)) from None
    raw = accept != "json"
    if raw and request.n != 1:
        raise FieldError(f"n={request.n}: must be 1 where accept asks for a picture itself; JSON holds several", "n")
    return Admissible(Order(request, live.pins, encoding, terms), raw)


def _terms(body: GenerationBody) -> Terms:
    user = "" if body.user is None else body.user
    if len(user) > _LONGEST_USER:
        raise RequestError("user", f"user: has {len(user)} characters, must have at most {_LONGEST_USER}")
    deadline_s = body.deadline_s
    # NaN lies between no two numbers
    if deadline_s is not None and not 0 < deadline_s <= _LONGEST_DEADLINE_S:
        raise refuse("deadline_s", deadline_s, f"a number over 0 and at most {_LONGEST_DEADLINE_S}")
    return Terms(user, "normal" if body.priority is None else body.priority, deadline_s)


def _request(body: GenerationBody, live: LiveModel, rules: RequestRules) -> ImageRequest:
    width, height = _size(body.size)
    fields = RequestFields(
        prompt=body.prompt,
        negative_prompt="" if body.negative_prompt is None else body.negative_prompt,
        steps=body.steps,
        guidance=body.guidance,
        guidance_rescale=body.guidance_rescale,
        guidance_start=body.guidance_start,
        guidance_end=body.guidance_end,
        adaptive_guidance=body.adaptive_guidance,
        sampler=body.sampler,
        schedule=body.schedule,
        eta=body.eta,
        rng=body.rng,
        seed=body.seed,
        subseed=body.subseed,
        subseed_strength=body.subseed_strength,
        n=1 if body.n is None else body.n,
        width=width,
        height=height,
    )
    return check_request(fields, live.contracts[Kind.DENOISER], rules)


def _size(text: str | None) -> tuple[int | None, int | None]:
    if text is None or text == "auto":
        return None, None
    match = _SIZE.fullmatch(text)
    if match is None:
        raise refuse("size", text, "auto or WIDTHxHEIGHT in pixels, such as 128x128")
    return int(match[1]), int(match[2])


def _encoding(body: GenerationBody, accept: Wanted) -> Encoding:
    chosen: PictureFormat = "png" if body.output_format is None else body.output_format
    if accept in ("png", "jpeg", "webp"):
        if body.output_format is not None and body.output_format != accept:
            limit = f"{accept} or left out, as accept asks for image/{accept}"
            raise refuse("output_format", body.output_format, limit)
        chosen = accept
    quality = 100 if body.output_compression is None else body.output_compression
    if not 0 <= quality <= 100:
        raise refuse("output_compression", quality, "a whole number between 0 and 100")
    if chosen == "png" and quality != 100:
        raise refuse("output_compression", quality, "100 or left out for png, which loses nothing")
    return Encoding(chosen, quality)


def _typed(given: dict[str, Any]) -> GenerationBody:
    try:
        return GenerationBody.model_validate(given)
    except ValidationError as error:
        raise _field_error(error.errors(include_url=False)[0]) from None


def _field_error(found: ErrorDetails) -> FieldError:
    # of a name that is not Unicode pydantic gives no place: the name is then the input
    unicode = bool(found["loc"])
    field = str(found["loc"][0] if unicode else found["input"])[:_LONGEST_NAME]
    if found["type"] == "missing":
        return FieldError(f"{field}: is required", field)
    if found["type"] == "extra_forbidden" or not unicode:
        return FieldError(f"{field!r}: no such field; there are {', '.join(GenerationBody.model_fields)}", field)
    limit = _limit(found)
    value = found["input"]
    if field in _SECRET:
        return FieldError(f"{field}: is {type(value).__name__}, must be {limit}", field)
    return FieldError(refuse(field, value, limit).message, field)


def _limit(found: ErrorDetails) -> str:
    match found["type"]:
        case "literal_error":
            inert = "" if found["loc"][0] in _CHOICES else "; another value would do nothing here"
            return f"{found['ctx']['expected']} or left out{inert}"
        case "none_required":
            return "null or left out; it would do nothing here"
        case kind:
            return _TYPES.get(kind, "of the type that /docs says")
