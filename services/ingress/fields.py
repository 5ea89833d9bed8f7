"""From a body's JSON object to a checked request: every field refused is named, with its value and its limit."""

import re
from dataclasses import dataclass
from typing import Any

from components.contract import Contract, Kind
from components.messages import ImageRequest
from pipeline.errors import RequestError, refuse
from pipeline.request import RequestFields, RequestRules, check_request
from services.errors import FieldError, UnknownModelError
from services.ingress.bodies import encoding_of, tenant_of, typed
from services.ingress.media_types import Wanted
from services.ingress.pinning import Pinned
from services.ingress.schemas import GenerationBody
from services.messages import Encoding, Order, Terms

_SIZE = re.compile(r"([0-9]{1,9})x([0-9]{1,9})")
_PARAMS = {"width": "size", "height": "size"}
_SECRET = {"prompt", "negative_prompt", "user"}
# fields of a few values each of which does something
_CHOICES = {"output_format", "priority"}
_LONGEST_NAME = 64
_LONGEST_DEADLINE_S = 86_400


@dataclass(frozen=True, slots=True)
class Form:
    """What of a request no version has a say in; `raw`: the answer is the picture itself."""

    images: int
    raw: bool
    encoding: Encoding
    terms: Terms


def typed_body(given: dict[str, Any]) -> GenerationBody:
    """Hold a body's JSON object to the fields that there are and to their types.

    Raises:
        FieldError: a field is unknown, missing or of another type.
    """
    return typed(GenerationBody, given, _SECRET, _CHOICES)


def require_model(body: GenerationBody, bundle: str) -> None:
    """Refuse a request for another model than the one that is served.

    Raises:
        UnknownModelError: it is one.
    """
    if body.model is not None and body.model != bundle:
        raise UnknownModelError(f"model={body.model[:_LONGEST_NAME]!r}: must be {bundle!r}", "model")


def check_form(body: GenerationBody, accept: Wanted, rules: RequestRules) -> Form:
    """Check what needs no version, of a body and the kind of answer asked for.

    Raises:
        FieldError: a field has a value outside its limits.
    """
    encoding = encoding_of(body.output_format, body.output_compression, accept)
    images, raw = 1 if body.n is None else body.n, accept != "json"
    try:
        if not 1 <= images <= rules.max_images:
            raise refuse("n", images, f"a whole number between 1 and {rules.max_images}")
        terms = _terms(body)
    except RequestError as error:
        raise FieldError(error.message, error.field) from None
    if raw and images != 1:
        raise FieldError(f"n={images}: must be 1 where accept asks for a picture itself; JSON holds several", "n")
    return Form(images, raw, encoding, terms)


def order_of(body: GenerationBody, form: Form, pinned: Pinned, rules: RequestRules, request_id: str) -> Order:
    """Turn a body into an order, by the versions that it is pinned to.

    Raises:
        FieldError: a field has a value outside its limits.
    """
    denoiser = pinned.contracts[Kind.DENOISER]
    try:
        request = _request(body, form, denoiser, rules)
    except RequestError as error:
        raise FieldError(error.message, _PARAMS.get(error.field, error.field)) from None
    return Order(
        request,
        pinned.pins,
        form.encoding,
        form.terms,
        id=request_id,
        fallback=pinned.fallback,
        shadow=pinned.shadow,
        store_latents=bool(body.store_latents),
        contract=denoiser,
    )


def _terms(body: GenerationBody) -> Terms:
    user = tenant_of(body.user)
    deadline_s = body.deadline_s
    # NaN lies between no two numbers
    if deadline_s is not None and not 0 < deadline_s <= _LONGEST_DEADLINE_S:
        raise refuse("deadline_s", deadline_s, f"a number over 0 and at most {_LONGEST_DEADLINE_S}")
    return Terms(user, "normal" if body.priority is None else body.priority, deadline_s)


def _request(body: GenerationBody, form: Form, denoiser: Contract, rules: RequestRules) -> ImageRequest:
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
        n=form.images,
        width=width,
        height=height,
    )
    return check_request(fields, denoiser, rules)


def _size(text: str | None) -> tuple[int | None, int | None]:
    if text is None or text == "auto":
        return None, None
    match = _SIZE.fullmatch(text)
    if match is None:
        raise refuse("size", text, "auto or WIDTHxHEIGHT in pixels, such as 128x128")
    return int(match[1]), int(match[2])
