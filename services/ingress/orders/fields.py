"""From a body's JSON object to a checked request: every field refused is named, with its value and its limit."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from components.contract import Contract, Kind
from components.messages import ImageRequest
from pipeline.errors import RequestError, refuse
from pipeline.framing import FRAMING
from pipeline.request import RequestFields, RequestRules, check_request
from pipeline.skipping import SKIPPING
from services.errors import FieldError, UnknownModelError
from services.ingress.http.media_types import Wanted
from services.ingress.orders.guides import Guides
from services.ingress.orders.naming import require_nameable
from services.ingress.orders.pinning import Pinned
from services.ingress.orders.sources import Undecoded
from services.ingress.wire.bodies import encoding_of, tenant_of, typed
from services.ingress.wire.quality import steps_of, told_quality
from services.ingress.wire.requests import EditBody, GenerationBody, VariationBody
from services.keys.keyring import ANYBODY, Caller
from services.messages import Encoding, Order, Terms, ToldQuality

_SIZE = re.compile(r"([0-9]{1,9})x([0-9]{1,9})")
_PARAMS = {"width": "size", "height": "size"}
_SECRET = {"boxes", "prompt", "negative_prompt", "user"}
# fields of a few values each of which does something
_CHOICES = {"on_disconnect", "output_format", "priority", "quality", "response_format"}
_LONGEST_NAME = 64
_LONGEST_DEADLINE_S = 86_400
MOST_PARTIAL_IMAGES = 3


@dataclass(frozen=True, slots=True)
class Streaming:
    """What the events of an answer are beside its pictures: previews of each, and whether every step is told."""

    partial_images: int
    progress: bool


@dataclass(frozen=True, slots=True)
class Form:
    """What of a request no version has a say in.

    `raw`: the answer is the picture itself; `links`: it has links to the pictures; `streaming`: it is a stream of
    events. `quality` is what it says of that.
    """

    images: int
    raw: bool
    encoding: Encoding
    terms: Terms
    links: bool = False
    streaming: Streaming | None = None
    quality: ToldQuality | None = None


def typed_body(given: dict[str, Any]) -> GenerationBody:
    """Hold a body's JSON object to the fields that there are and to their types.

    Raises:
        FieldError: a field is unknown, missing or of another type.
    """
    return typed(GenerationBody, given, _SECRET, _CHOICES)


def typed_edit(given: Mapping[str, Any]) -> EditBody:
    """Hold the texts of a form that brings a picture to edit to the fields that there are and to their types.

    Raises:
        FieldError: a field is unknown, missing or of another type.
    """
    return typed(EditBody, given, _SECRET, _CHOICES, texts=True)


def typed_variation(given: Mapping[str, Any]) -> VariationBody:
    """Hold the texts of a form that brings a picture to vary to the fields that there are and to their types.

    Raises:
        FieldError: as `typed_edit`.
    """
    return typed(VariationBody, given, _SECRET, _CHOICES, texts=True)


def require_model(body: GenerationBody, bundle: str) -> None:
    """Refuse a request for another model than the one that is served.

    Raises:
        UnknownModelError: it is one.
    """
    if body.model is not None and body.model != bundle:
        raise UnknownModelError(f"model={body.model[:_LONGEST_NAME]!r}: must be {bundle!r}", "model")


def check_form(body: GenerationBody, accept: Wanted, rules: RequestRules, who: Caller = ANYBODY) -> Form:
    """Check what needs no version, of a body and the kind of answer asked for; `who` asks.

    Raises:
        FieldError: a field has a value outside its limits.
    """
    encoding = encoding_of(body.output_format, body.output_compression, accept)
    images, raw = 1 if body.n is None else body.n, accept != "json"
    try:
        if not 1 <= images <= rules.max_images:
            raise refuse("n", images, f"a whole number between 1 and {rules.max_images}")
        terms = _terms(body, who)
        streaming = _streaming(body)
    except RequestError as error:
        raise FieldError(error.message, error.field) from None
    links = body.response_format == "url"
    if raw and images != 1:
        raise FieldError(f"n={images}: must be 1 where accept asks for a picture itself; JSON holds several", "n")
    if links and (raw or streaming is not None):
        why = "where accept asks for a picture itself" if raw else "with stream, whose events hold the pictures"
        raise FieldError(f"response_format='url': must be left out {why}", "response_format")
    return Form(images, raw, encoding, terms, links, streaming, told_quality(body.quality, body.steps))


def order_of(
    body: GenerationBody,
    form: Form,
    pinned: Pinned,
    rules: RequestRules,
    request_id: str,
    brought: Undecoded | None = None,
    guides: Guides | None = None,
) -> Order:
    """Turn a body into an order, by the versions that it is pinned to; what was `brought` is not decoded yet.

    `guides` are what was taken out of the body, checked, and named as the request names it.

    Raises:
        FieldError: a field has a value outside its limits.
    """
    denoiser = pinned.contracts[Kind.DENOISER]
    try:
        guides = Guides() if guides is None else guides
        request = _request(body, form, pinned.contracts, rules, brought)
        _require_one_size(request, guides)
        request = replace(request, controls=guides.choices)
        require_nameable(request, denoiser)
    except RequestError as error:
        raise FieldError(error.message, _PARAMS.get(error.field, error.field)) from None
    if form.streaming is not None and form.streaming.partial_images and denoiser.preview is None:
        limit = f"0 or left out: {pinned.pins[Kind.DENOISER]} has no previews"
        raise FieldError(f"partial_images={form.streaming.partial_images}: must be {limit}", "partial_images")
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


def _terms(body: GenerationBody, who: Caller) -> Terms:
    user = tenant_of(body.user)
    deadline_s = body.deadline_s
    # NaN lies between no two numbers
    if deadline_s is not None and not 0 < deadline_s <= _LONGEST_DEADLINE_S:
        raise refuse("deadline_s", deadline_s, f"a number over 0 and at most {_LONGEST_DEADLINE_S}")
    priority = "normal" if body.priority is None else body.priority
    return Terms(who.share_of(user), priority, deadline_s, who.owner_of(user) if who.tenant else None)


def _streaming(body: GenerationBody) -> Streaming | None:
    partial_images = 0 if body.partial_images is None else body.partial_images
    progress = bool(body.progress)
    if body.stream:
        if not 0 <= partial_images <= MOST_PARTIAL_IMAGES:
            raise refuse("partial_images", partial_images, f"a whole number between 0 and {MOST_PARTIAL_IMAGES}")
        return Streaming(partial_images, progress)
    if partial_images:
        raise refuse("partial_images", partial_images, "0 or left out without stream")
    if progress:
        raise refuse("progress", progress, "false or left out without stream")
    return None


def _request(
    body: GenerationBody,
    form: Form,
    contracts: Mapping[Kind, Contract],
    rules: RequestRules,
    brought: Undecoded | None,
) -> ImageRequest:
    denoiser = contracts[Kind.DENOISER]
    width, height = _size(body.size)
    fields = RequestFields(
        prompt=body.prompt,
        negative_prompt="" if body.negative_prompt is None else body.negative_prompt,
        weighting=body.weighting,
        clip_skip=body.clip_skip,
        steps=steps_of(body.quality, body.steps, denoiser, rules),
        guidance=body.guidance,
        image_guidance=body.image_guidance,
        noise_level=body.noise_level,
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
        **{name: getattr(body, name) for name in (*FRAMING, *SKIPPING)},
        hires=None if body.hires is None else body.hires.model_dump(exclude_none=True),
        boxes=() if body.boxes is None else [box.model_dump() for box in body.boxes],
        boxes_end=body.boxes_end,
        n=form.images,
        width=width,
        height=height,
        **({} if brought is None else asdict(brought.editing)),
        image=None if brought is None else brought.size,
        mask=brought is not None and brought.has_mask,
        depth=brought is not None and brought.has_depth,
        image_prompts=len(body.image_prompts or ()),
        image_prompt_scale=body.image_prompt_scale,
        loras=[one.model_dump(exclude_none=True) for one in body.loras or ()],
    )
    # which LoRAs there are the registry knows
    return check_request(fields, denoiser, rules, contracts[Kind.TEXT_ENCODER].most_clip_skip, known_loras=None)


def _require_one_size(request: ImageRequest, guides: Guides) -> None:
    # a control picture is resized to what is drawn, and these draw in another size too, or only a part
    for name, given in (("hires", request.hires), ("padding_mask_crop", request.padding_mask_crop)):
        if guides.choices and given is not None:
            raise RequestError("controls", f"controls: must be left out with {name}")


def _size(text: str | None) -> tuple[int | None, int | None]:
    if text is None or text == "auto":
        return None, None
    match = _SIZE.fullmatch(text)
    if match is None:
        raise refuse("size", text, "auto or WIDTHxHEIGHT in pixels, such as 128x128")
    return int(match[1]), int(match[2])
