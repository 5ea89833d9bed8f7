"""The latents face: pictures of latents that are kept, by any VAE decoder that fits them, and two of them compared."""

import base64
import logging
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from time import time
from typing import Annotated, Any, Protocol

from fastapi import APIRouter, Path, Request, Response

from components.compatibility import compatible
from components.contract import Contract, Kind
from components.reference import ComponentRef
from services.comparison import decibels
from services.errors import FieldError, NotAcceptableError, StartError, UnavailableError
from services.ingress.access.callers import caller
from services.ingress.http.body import JSON_TYPE, parse_object, read_body, require_json_type
from services.ingress.http.media_types import MEDIA_TYPES, wanted
from services.ingress.latents.schemas import ComparedImage, ComparisonAnswer, DecodeBody
from services.ingress.orders.admission import Admission
from services.ingress.orders.pinning import check_selector
from services.ingress.wire.answers import ANSWERS, ERRORS, PICTURE, answer_of, headers_of, pin_of, pins_text
from services.ingress.wire.bodies import encoding_of, one_of_each, tenant_of, typed
from services.ingress.wire.queries import USER, query_field, with_query
from services.latents.records import Compared, CompareOrder, DecodeOrder, KeptLatents
from services.messages import Drawn, Encoding, Order, Picture, Pins, Terms
from services.metrics.ingress import IngressMetrics

_log = logging.getLogger("ray.serve")

_SECRET = ("user",)
_COMPARED = ("components", "user")
_SHEETS = {"application/json", "application/*", "image/png", "image/*", "*/*"}
_DECODER = "components.vae_decoder"


class Resolver(Protocol):
    """From what a caller writes to an exact version."""

    async def component(self, kind: Kind, selector: str, field: str) -> tuple[ComponentRef, Contract]:
        """The version that a selector points at now, and its contract.

        Raises:
            FieldError: the selector is none, or points at nothing, or at another kind; `field` is named.
        """

    def fallback(self, decoder: ComponentRef, denoiser: Contract) -> ComponentRef | None:
        """The version that decodes a denoiser's latents where `decoder` gives no picture, None where there is none."""


@dataclass(frozen=True, slots=True)
class LatentsFace:
    """What the face needs of the rest of the server; `read` takes an id and an owner."""

    resolver: Resolver
    read: Callable[[str, str], Awaitable[KeptLatents]]
    decode: Callable[[DecodeOrder], Awaitable[Picture]]
    compare: Callable[[CompareOrder], Awaitable[Compared]]
    admission: Admission
    metrics: IngressMetrics

    def router(self) -> APIRouter:
        """The face's routes."""
        router = APIRouter(prefix="/v1/latents", tags=["latents"])
        router.add_api_route(
            "/{id}/decode",
            self.decode_one,
            methods=["POST"],
            response_class=Response,
            responses=ANSWERS,
            openapi_extra=_BODY,
        )
        router.add_api_route(
            "/{id}/compare",
            self.compare_two,
            methods=["GET"],
            response_class=Response,
            responses=_COMPARISONS,
            openapi_extra=_QUERY,
        )
        return router

    async def decode_one(
        self, request: Request, latents: Annotated[str, Path(alias="id", description="of the latents")]
    ) -> Response:
        """Decode kept latents by the VAE decoder that is named."""
        accept = wanted(request.headers.get("accept"))
        require_json_type(request.headers.get("content-type"))
        given = parse_object(await read_body(request.stream(), request.headers.get("content-length")))
        body = typed(DecodeBody, given, _SECRET, ("output_format",))
        encoding = encoding_of(body.output_format, body.output_compression, accept)
        who, user = caller(request), tenant_of(body.user)
        named = None if body.components is None else body.components.vae_decoder
        if named is not None:
            check_selector((Kind.VAE_DECODER,), named, _DECODER)
        kept = await self.read(latents, who.owner_of(user))
        with self.admission.admitted(1, who):
            # the version that they were pinned to has served already, whatever is said of it now
            pinned = kept.pins[Kind.VAE_DECODER]
            decoder = pinned if named is None else await self._decoder(kept, named, _DECODER)
            picture = await self._decoded(kept, decoder, encoding)
        self.metrics.images.inc(1, tags={"format": encoding.format})
        order = Order(kept.request, _pinned(kept, decoder), encoding, Terms(who.share_of(user)))
        drawn = Drawn((picture,), kept.prompt_truncated, kept.negative_prompt_truncated)
        headers = headers_of(order, drawn)
        if accept != "json":
            return Response(picture.data, media_type=MEDIA_TYPES[encoding.format], headers=headers)
        answer = answer_of(order, drawn, decoder.name.split(".")[0])
        return Response(answer.model_dump_json(), media_type=JSON_TYPE, headers=headers)

    async def compare_two(
        self, request: Request, latents: Annotated[str, Path(alias="id", description="of the latents")]
    ) -> Response:
        """Show what two VAE decoders make of the same latents, and where they differ."""
        as_json = _asks_for_json(request.headers.get("accept"))
        query = one_of_each(request.query_params.multi_items(), _COMPARED)
        first, second = _two(query.get("components"))
        who = caller(request)
        kept = await self.read(latents, who.owner_of(tenant_of(query.get("user"))))
        with self.admission.admitted(2, who):
            decoders = (await self._decoder(kept, first, "components"), await self._decoder(kept, second, "components"))
            compared = await self.compare(CompareOrder(kept=kept, decoders=decoders, files=as_json))
        self.metrics.images.inc(len(compared.files), tags={"format": "png"})
        headers = _comparison_headers(kept, decoders, compared)
        if not as_json:
            return Response(compared.files[0], media_type=MEDIA_TYPES["png"], headers=headers)
        answer = _comparison(kept, decoders, compared)
        return Response(answer.model_dump_json(), media_type=JSON_TYPE, headers=headers)

    async def _decoder(self, kept: KeptLatents, selector: str, field: str) -> ComponentRef:
        pin, contract = await self.resolver.component(Kind.VAE_DECODER, selector, field)
        if mismatches := compatible(kept.contract, contract):
            raise FieldError(f"{field}: {pin} does not fit these latents: {'; '.join(mismatches)}", field)
        return pin

    async def _decoded(self, kept: KeptLatents, decoder: ComponentRef, encoding: Encoding) -> Picture:
        fallback = self.resolver.fallback(decoder, kept.contract)
        try:
            return await self.decode(DecodeOrder(kept=kept, decoder=decoder, fallback=fallback, encoding=encoding))
        except StartError as error:
            # why is for operators
            _log.error("request failed: %s", error.message)
            raise UnavailableError(f"{decoder} cannot be opened just now; try again later") from None


def add_body_schemas(schema: dict[str, Any]) -> None:
    """Add the decode body's schema to an OpenAPI document; the route reads the body itself, so FastAPI has not."""
    made = DecodeBody.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas = schema["components"]["schemas"]
    schemas.update(made.pop("$defs", {}))
    schemas[DecodeBody.__name__] = made


def _asks_for_json(accept: str | None) -> bool:
    """Whether JSON is asked for by name: whom anything will do for gets something to look at.

    Raises:
        NotAcceptableError: neither JSON nor PNG will do.
    """
    parts = ["*/*"] if accept is None or not accept.strip() else accept.split(",")
    ours = [part for part in parts if part.split(";")[0].strip().lower() in _SHEETS]
    if not ours:
        raise NotAcceptableError("accept: must name one of image/png, application/json")
    named = [part for part in ours if not part.strip().startswith("*/*")]
    return bool(named) and wanted(",".join(named)) == "json"


def _two(components: str | None) -> tuple[str, str]:
    """Two selectors of VAE decoders.

    Raises:
        FieldError: they are not two, or one is none.
    """
    selectors = [] if components is None else [part.strip() for part in components.split(",")]
    if len(selectors) != 2 or not all(selectors):
        raise FieldError(
            f"components: has {len(selectors)} selectors, must have two with a comma between them, such as "
            "emoji.vae_decoder@production,emoji.vae_decoder@candidate",
            "components",
        )
    for selector in selectors:
        check_selector((Kind.VAE_DECODER,), selector, "components")
    return selectors[0], selectors[1]


def _pinned(kept: KeptLatents, decoder: ComponentRef) -> Pins:
    return {**kept.pins, Kind.VAE_DECODER: decoder}


def _comparison_headers(
    kept: KeptLatents, decoders: tuple[ComponentRef, ComponentRef], compared: Compared
) -> dict[str, str]:
    made_by = [(kind, pin) for kind, pin in kept.pins.items() if kind != Kind.VAE_DECODER]
    return {
        "x-seed": str(kept.request.seed),
        "x-component-versions": pins_text([*made_by, *((Kind.VAE_DECODER, decoder) for decoder in decoders)]),
        "x-psnr-db": decibels(compared.psnr_db),
        "x-max-difference": str(compared.max_difference),
        "x-difference-factor": str(compared.factor),
    }


def _comparison(kept: KeptLatents, decoders: tuple[ComponentRef, ComponentRef], compared: Compared) -> ComparisonAnswer:
    identical = math.isinf(compared.psnr_db)
    return ComparisonAnswer(
        created=int(time()),
        identical=identical,
        psnr_db=None if identical else compared.psnr_db,
        max_difference=compared.max_difference,
        seed=kept.request.seed,
        data=[
            ComparedImage(b64_json=base64.b64encode(file).decode(), vae_decoder=pin_of(decoder))
            for file, decoder in zip(compared.files, decoders, strict=True)
        ],
        components={kind.value: pin_of(pin) for kind, pin in kept.pins.items() if kind != Kind.VAE_DECODER},
    )


_BODY = {
    "requestBody": {
        "required": True,
        "content": {JSON_TYPE: {"schema": {"$ref": "#/components/schemas/DecodeBody"}}},
    }
}
_QUERY = with_query(
    query_field(
        "components",
        "two VAE decoders with a comma between them, each NAME@ALIAS or NAME/VERSION",
        required=True,
    ),
    USER,
)
_COMPARISONS: dict[int | str, dict[str, Any]] = {
    200: {
        "model": ComparisonAnswer,
        "description": "a PNG with both pictures and the map of their difference, or JSON where accept names it",
        "content": {"image/png": PICTURE},
    },
    **{status: said for status, said in ERRORS.items() if status not in (400, 413, 415, 504)},
}
