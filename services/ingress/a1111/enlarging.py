"""A1111's extra-single-image and png-info: a picture enlarged, and what a picture's file says."""

import asyncio
import base64
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from fastapi import APIRouter, Request
from PIL import Image, ImageOps
from pydantic import BaseModel, Field

from pipeline.checks import check_number, check_whole
from pipeline.errors import RequestError, refuse
from pipeline.request import RequestRules
from pipeline.source_pictures import turned_size
from pipeline.story.containers import OURS, read_texts
from pipeline.story.reading import read_story
from pipeline.upscalers import UPSCALERS
from services.errors import FieldError
from services.ingress.a1111.errors import EncodedImageError
from services.ingress.a1111.pictures import as_png, encoded_picture, picture_file, rgb
from services.ingress.a1111.routes import json_body
from services.ingress.a1111.schemas import CHOICES, SECRET, ExtraBody, PngInfoBody
from services.ingress.a1111.stories import fields_of
from services.ingress.http.body import MAX_PICTURES_BYTES, parse_object, read_body, require_json_type
from services.ingress.http.multipart import Uploads
from services.ingress.wire.bodies import Body, typed

_NO_UPSCALER = "None"
_FILTERS: Mapping[str, Image.Resampling] = MappingProxyType(
    {one.label: one.resampling for one in UPSCALERS.values() if one.label is not None and one.resampling is not None}
)
FILTERS = (_NO_UPSCALER, *_FILTERS)
_MOST_TIMES = 8.0
_MOST_SIDE = 2**16


class ExtraAnswer(BaseModel):
    """An enlarged picture."""

    html_info: str = Field(description="how it was enlarged, in words")
    image: str = Field(description="a PNG file in base64")


class PngInfoAnswer(BaseModel):
    """What a picture's file says."""

    info: str = Field(description="the infotext, empty where there is none")
    items: dict[str, str] = Field(description="the other texts: `latentworks`, our JSON")
    parameters: dict[str, Any] = Field(description="what to send to txt2img for the same picture")


@dataclass(frozen=True, slots=True)
class Enlarging:
    """Reads pictures; `uploads` bounds how many are in memory."""

    uploads: Uploads
    rules: RequestRules

    def add_routes(self, router: APIRouter) -> None:
        """Add the routes to the face's."""
        router.add_api_route(
            "/extra-single-image",
            self.enlarge,
            methods=["POST"],
            response_model=ExtraAnswer,
            openapi_extra=json_body(ExtraBody),
        )
        router.add_api_route(
            "/png-info",
            self.read,
            methods=["POST"],
            response_model=PngInfoAnswer,
            openapi_extra=json_body(PngInfoBody),
        )

    async def enlarge(self, request: Request) -> ExtraAnswer:
        """Enlarge a picture by a filter."""
        with self.uploads.taken():
            body = await _body(request, ExtraBody)
            try:
                data = await asyncio.to_thread(_enlarged, body, self.rules.max_source_pixels)
            except RequestError as error:
                raise FieldError(error.message, error.field) from None
        said = [f"Upscaler: {body.upscaler_1 or _NO_UPSCALER}"]
        if body.extras_upscaler_2_visibility:
            said += [f"Upscaler 2: {body.upscaler_2}", f"visibility: {body.extras_upscaler_2_visibility:g}"]
        return ExtraAnswer(html_info=", ".join(said), image=base64.b64encode(data).decode())

    async def read(self, request: Request) -> PngInfoAnswer:
        """Read what a picture's file says of how it was made; no pixel is looked at."""
        with self.uploads.taken():
            body = await _body(request, PngInfoBody)
            return await asyncio.to_thread(_told, body.image.strip())


async def _body(request: Request, model: type[Body]) -> Body:
    require_json_type(request.headers.get("content-type"))
    content = await read_body(request.stream(), request.headers.get("content-length"), MAX_PICTURES_BYTES)
    return typed(model, await asyncio.to_thread(parse_object, content), SECRET, CHOICES)


def _told(text: str) -> PngInfoAnswer:
    data = picture_file("image", text)
    try:
        texts, reading = read_texts(data), read_story(data)
    except RequestError as error:
        raise EncodedImageError(error.message, "image") from None
    fields = {} if reading.story is None else fields_of(reading.story)[0]
    items = {} if texts.ours is None else {OURS: texts.ours}
    return PngInfoAnswer(info=reading.parameters or "", items=items, parameters=fields)


def _enlarged(body: ExtraBody, most_pixels: int) -> bytes:
    picture = encoded_picture("image", body.image, most_pixels)
    first, second = _filter("upscaler_1", body.upscaler_1), _filter("upscaler_2", body.upscaler_2)
    visibility = body.extras_upscaler_2_visibility or 0
    check_number("extras_upscaler_2_visibility", visibility, 1.0)
    if first is None and second is not None and visibility:
        raise refuse("upscaler_1", _NO_UPSCALER, "one of the others where upscaler_2 is to be seen")
    if first is None:
        return as_png(rgb(picture, most_pixels))
    large = _large(body, turned_size(picture))
    if large[0] * large[1] > most_pixels:
        size = f"{large[0]}x{large[1]}"
        raise RequestError("image", f"image={size} once enlarged: must have at most {most_pixels} pixels")
    shown = rgb(picture, most_pixels)
    made = shown.resize(large, first)
    if second is not None and visibility:
        made = Image.blend(made, shown.resize(large, second), visibility)
    if body.resize_mode == 1 and body.upscaling_crop is not False:
        made = ImageOps.fit(made, _wanted(body), first)
    return as_png(made)


def _large(body: ExtraBody, size: tuple[int, int]) -> tuple[int, int]:
    """Width and height before anything is cut off."""
    if body.resize_mode == 1:
        times = max(wanted / side for wanted, side in zip(_wanted(body), size, strict=True))
    else:
        times = 2 if body.upscaling_resize is None else body.upscaling_resize
        check_number("upscaling_resize", times, _MOST_TIMES)
    width, height = (max(1, round(times * side)) for side in size)
    return width, height


def _wanted(body: ExtraBody) -> tuple[int, int]:
    width, height = (512 if side is None else side for side in (body.upscaling_resize_w, body.upscaling_resize_h))
    check_whole("upscaling_resize_w", width, 1, _MOST_SIDE)
    check_whole("upscaling_resize_h", height, 1, _MOST_SIDE)
    return width, height


def _filter(field: str, name: str | None) -> Image.Resampling | None:
    if name is None or name == _NO_UPSCALER:
        return None
    if name not in _FILTERS:
        raise refuse(field, name, f"one of {', '.join(FILTERS)}")
    return _FILTERS[name]
