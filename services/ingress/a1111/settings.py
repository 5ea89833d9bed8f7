"""A1111's options over HTTP."""

from dataclasses import dataclass

from fastapi import APIRouter, Request

from services.errors import FieldError
from services.ingress.a1111.options import Options, shown_options
from services.ingress.a1111.routes import json_body
from services.ingress.a1111.schemas import SECRET, OptionsBody
from services.ingress.a1111.translation import renamed
from services.ingress.access.callers import caller
from services.ingress.http.body import parse_object, read_body, require_json_type
from services.ingress.orders.pinning import Pinning
from services.ingress.wire.bodies import typed


@dataclass(frozen=True, slots=True)
class OptionsRoutes:
    """Shows and sets the caller's options."""

    options: Options
    pinning: Pinning

    def add_routes(self, router: APIRouter) -> None:
        """Add the routes to the face's."""
        router.add_api_route("/options", self.show, methods=["GET"], response_model=OptionsBody)
        router.add_api_route("/options", self.change, methods=["POST"], openapi_extra=json_body(OptionsBody))

    async def show(self, request: Request) -> OptionsBody:
        """Show the caller's options."""
        return shown_options(self.options.of(caller(request)), self.pinning.record.live)

    async def change(self, request: Request) -> None:
        """Set options of the caller's later requests."""
        require_json_type(request.headers.get("content-type"))
        content = await read_body(request.stream(), request.headers.get("content-length"))
        given = typed(OptionsBody, parse_object(content), SECRET)
        try:
            await self.options.change(
                caller(request), given, self.pinning.record.live, lambda chosen: self.pinning.choose("", chosen)
            )
        except FieldError as error:
            raise renamed(error) from None
