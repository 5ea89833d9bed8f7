"""`python -m services.ingress.reference FILE`: the page of every endpoint and field, made from the OpenAPI document."""

import json
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any, Self, cast

import typer
from fastapi import FastAPI
from fastapi.routing import APIWebSocketRoute

from pipeline.request import RequestRules
from services.ingress.access.callers import access_of
from services.ingress.app import Face, create_app
from services.ingress.faces import Foundation, IngressSettings, faces_of
from services.ingress.http.body import JSON_TYPE
from services.ingress.orders.admission import Admission
from services.keys.keyring import Keyring
from services.metrics.ingress import IngressMetrics

Schema = Mapping[str, Any]

_INTRODUCTION = """\
# The HTTP API

Written by `make docs` from the models that check requests and write answers; a running server tells the same at
`/openapi.json`, and shows it at `/docs`. What a request may ask for at most is the server's own (`rules.*` in
[settings.md](settings.md)) and stands in `GET /v1/capabilities`. A field that is not known is refused by its name, and
one that is left out or null asks for nothing; `*` marks what must be there. Where the server has keys
([keys.md](keys.md)) an endpoint names the role that a key needs. Every answer has `x-request-id`; 429 and 503 have
`retry-after`.
"""
_ERRORS = "What an error means where an endpoint lists its status alone:"
# in the order of the page: the tag, and what tells more
_SECTIONS = {
    "OpenAI images": "More in [openai.md](openai.md), [prompts.md](prompts.md) and [samplers.md](samplers.md).",
    "pictures": "More in [story.md](story.md).",
    "jobs": "More in [jobs.md](jobs.md).",
    "latents": "More in [latents.md](latents.md).",
    "requests": "More in [timeline.md](timeline.md).",
    "A1111": "More in [a1111.md](a1111.md).",
    "operation": "More in [serving.md](serving.md) and [rollout.md](rollout.md).",
}
# what FastAPI says where nobody says anything
_UNSAID = "Successful Response"
# the body whose fields others have too
_BASE = "GenerationBody"
_REF = "#/components/schemas/"
# any JSON at all, as pydantic names it
_ANY = "JsonValue"


class _Nobody:
    """What faces stand on that only describe themselves."""

    def __getattr__(self, name: str) -> Self:
        return self

    def __call__(self, *_: Any, **__: Any) -> Self:
        return self


def described() -> tuple[FastAPI, list[Face]]:
    """The application that asks for keys, with nothing behind it, and its faces."""
    settings, metrics = IngressSettings(rules=RequestRules(), max_images=1, retry_after_s=1), IngressMetrics()
    nobody = cast(Any, _Nobody())
    given = dict.fromkeys(Foundation.__dataclass_fields__, nobody)
    admission = Admission(settings.max_images, lambda _: None)
    faces = faces_of(Foundation(**{**given, "settings": settings, "metrics": metrics, "admission": admission}))
    return create_app(faces, metrics, settings.retry_after_s, Keyring([], time.monotonic)), faces


def page() -> str:
    """The whole page, in Markdown."""
    app, faces = described()
    document = app.openapi()
    operations = [
        (method, path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    sockets = list(_sockets(faces))
    parts = [_INTRODUCTION]
    for tag, more in _SECTIONS.items():
        own = [one for one in operations if one[-1]["tags"] == [tag]]
        usual = _usual(operation for *_, operation in own)
        errors = _table(("status", "when"), [f"| {one} | {_cell(usual[one])} |" for one in usual])
        parts += [f"## {tag[0].upper()}{tag[1:]}", more, _ERRORS, errors]
        for method, path, operation in own:
            parts += _endpoint(method, path, operation, _role(faces, path), usual)
        parts += [text for named, text in sockets if named == tag]
    schemas = {name: one for name, one in document["components"]["schemas"].items() if name != _ANY}
    parts += ["## Models", "Bodies and answers by name."]
    for name, schema in sorted(schemas.items()):
        parts += _model(name, schema, schemas[_BASE])
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _usual(operations: Iterable[Schema]) -> dict[str, str]:
    """What each status means at most of the endpoints."""
    meanings: dict[str, Counter[str]] = {}
    for operation in operations:
        for status, answer in operation["responses"].items():
            if int(status) >= HTTPStatus.BAD_REQUEST:
                meanings.setdefault(status, Counter())[answer["description"]] += 1
    return {status: found.most_common(1)[0][0] for status, found in sorted(meanings.items())}


def _sockets(faces: Iterable[Face]) -> Iterator[tuple[str, str]]:
    for face in faces:
        router = face.router()
        for route in router.routes:
            if isinstance(route, APIWebSocketRoute):
                said = _first(route.endpoint.__doc__)
                yield (
                    str(router.tags[0]),
                    f"### WebSocket `{route.path}`\n\n{said} Key: `{access_of(face, route).role}`.",
                )


def _role(faces: Iterable[Face], path: str) -> str | None:
    for face in faces:
        for route in face.router().routes:
            if getattr(route, "path", None) == path:
                return access_of(face, route).role
    raise LookupError(f"{path}: no face has it")


def _endpoint(method: str, path: str, operation: Schema, role: str | None, usual: Mapping[str, str]) -> Iterator[str]:
    yield f"### {method.upper()} `{path}`"
    yield f"{_first(operation.get('description'))} {'No key.' if role is None else f'Key: `{role}`.'}"
    if parameters := operation.get("parameters"):
        rows = [
            f"| `{one['name']}`{'*' if one['required'] else ''} | {one['in']} | {_kind(one['schema'])} "
            f"| {_cell(_said(one))} |"
            for one in parameters
        ]
        yield _table(("parameter", "in", "type", "meaning"), rows)
    if body := operation.get("requestBody"):
        yield from _body(body["content"])
    answers = sorted(operation["responses"].items())
    for status, one in answers:
        if int(status) < HTTPStatus.BAD_REQUEST:
            said = "" if one["description"] == _UNSAID else f" {one['description']}."
            yield f"Answer {status}:{said} {_contents(one.get('content', {}))}."
    errors = [(status, one) for status, one in answers if int(status) >= HTTPStatus.BAD_REQUEST]
    if errors:
        told = ", ".join(
            status if one["description"] == usual[status] else f"{status} ({one['description']})"
            for status, one in errors
        )
        kinds = dict.fromkeys(_contents(one.get("content", {})) for _, one in errors)
        yield f"Errors ({' or '.join(kinds)}): {told}."


def _body(content: Mapping[str, Schema]) -> Iterator[str]:
    files = [kind for kind, one in content.items() if one["schema"].get("format") == "binary"]
    if files:
        yield f"Body: the file alone, as {', '.join(f'`{kind}`' for kind in files)}."
    for kind, one in content.items():
        schema = one["schema"]
        if kind in files:
            continue
        named = [part for part in schema.get("allOf", [schema]) if "$ref" in part]
        own = [part for part in schema.get("allOf", [schema]) if "$ref" not in part]
        whose = " and ".join(map(_kind, named))
        yield f"Body (`{kind}`){': ' + whose if whose else ''}{', with' if whose and own else ''}{':' if own else '.'}"
        for part in own:
            yield _fields(part)


def _contents(content: Mapping[str, Schema]) -> str:
    said: dict[str, list[str]] = {}
    for kind, one in content.items():
        said.setdefault(_kind(one["schema"]) if one else "any JSON", []).append(f"`{kind}`")
    if list(said.values()) == [[f"`{JSON_TYPE}`"]]:
        return next(iter(said))
    return "; ".join(f"{', '.join(kinds)}: {what}" for what, kinds in said.items()) or "nothing"


def _model(name: str, schema: Schema, base: Schema) -> Iterator[str]:
    yield f"### {name}"
    yield _first(schema.get("description"))
    fields = schema.get("properties", {})
    if name != _BASE and base["properties"].keys() <= fields.keys():
        yield f"The fields of [{_BASE}](#{_BASE.lower()}), and:"
        fields = {field: one for field, one in fields.items() if base["properties"].get(field) != one}
    if fields:
        yield _fields({**schema, "properties": fields})


def _fields(schema: Schema) -> str:
    required = schema.get("required", [])
    rows = [
        f"| `{name}`{'*' if name in required else ''} | {_kind(one)} | {_default(one)} | {_cell(_said(one))} |"
        for name, one in schema["properties"].items()
    ]
    return _table(("field", "type", "default", "meaning"), rows)


def _kind(schema: Schema) -> str:
    """A schema's type in a few words, with its limits."""
    if "$ref" in schema:
        name = schema["$ref"].removeprefix(_REF)
        return "any JSON" if name == _ANY else f"[{name}](#{name.lower()})"
    for key in ("anyOf", "oneOf", "allOf"):
        if key in schema:
            kinds = [_kind(one) for one in schema[key]]
            return " or ".join(dict.fromkeys(kind for kind in kinds if kind != "null")) or "null"
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return ", ".join(f"`{one}`" for one in schema["enum"])
    return _plain(schema)


def _plain(schema: Schema) -> str:
    kind = schema.get("type")
    if kind == "array":
        return f"list of {_kind(schema.get('items', {}))}"
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"by name: {_kind(schema['additionalProperties'])}"
    if kind == "object" and "title" in schema and "properties" in schema:
        return f"{schema['title']} ({', '.join(f'`{name}`' for name in schema['properties'])})"
    if schema.get("format") == "binary":
        return "a file"
    limits = [
        f"{sign} {schema[key]}"
        for key, sign in (("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤"), ("exclusiveMaximum", "<"))
        if key in schema
    ]
    return " ".join([{"string": "text", None: "any JSON"}.get(kind, str(kind)), *limits])


def _said(schema: Schema) -> str:
    return str(schema.get("description", ""))


def _default(schema: Schema) -> str:
    default = schema.get("default")
    return "" if default is None else f"`{json.dumps(default)}`"


def _first(text: str | None) -> str:
    return " ".join((text or "").split("\n\n")[0].split())


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def _table(heads: Iterable[str], rows: Iterable[str]) -> str:
    heads = list(heads)
    return "\n".join([f"| {' | '.join(heads)} |", "|---" * len(heads) + "|", *rows])


def main(file: Annotated[Path, typer.Argument(help="where the page goes")]) -> None:
    """Write the page."""
    file.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
