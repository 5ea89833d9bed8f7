"""What the routes of A1111's face say of themselves in the OpenAPI document."""

from collections.abc import Mapping
from functools import cache
from typing import Any

from pydantic import BaseModel, Field

from services.ingress.http.body import JSON_TYPE

_PARTS = "#/$defs/"


class A1111Error(BaseModel):
    """Every answer that is no success."""

    error: str = Field(description="always `HTTPException`")
    detail: str = Field(description="what went wrong, in words")
    body: str = Field(description="always empty")
    errors: str = Field(description="the same in words of ours")


# as a schema: of a model FastAPI would make a validator for every status of every route
_ERROR = {JSON_TYPE: {"schema": A1111Error.model_json_schema()}}
ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"content": _ERROR, "description": said}
    for status, said in (
        (400, "the body is no JSON object"),
        (401, "no key, or one that is not known"),
        (403, "the key may not do this"),
        (404, "no such sampler, checkpoint or task, or no picture to start from"),
        (408, "the body did not come in time"),
        (413, "the body is too long"),
        (415, "the body is not application/json"),
        (422, "a field is unknown, outside its limits, no picture, or asks for what is not here"),
        (429, "too much waits; retry-after says how long to wait"),
        (500, "something failed on our side"),
        (503, "a part of the server is not there just now"),
    )
}


@cache
def json_body(model: type[BaseModel]) -> dict[str, Any]:
    """The body of a route that reads it itself, so that FastAPI does not know it."""
    schema = model.model_json_schema()
    parts = schema.pop("$defs", {})
    return {"requestBody": {"required": True, "content": {JSON_TYPE: {"schema": _whole(schema, parts)}}}}


def _whole(schema: Any, parts: Mapping[str, Any]) -> Any:
    """A schema with its parts in the places where it refers to them: within a document they would be nowhere."""
    if isinstance(schema, list):
        return [_whole(one, parts) for one in schema]
    if not isinstance(schema, dict):
        return schema
    beside = {name: _whole(one, parts) for name, one in schema.items() if name != "$ref"}
    if "$ref" not in schema:
        return beside
    return {**_whole(parts[schema["$ref"].removeprefix(_PARTS)], parts), **beside}
