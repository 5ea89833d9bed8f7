"""The page of every endpoint and field is current, and leaves nothing out."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from fastapi.routing import APIRoute, APIWebSocketRoute

from services.ingress.reference import described, page

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def written() -> str:
    return page()


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    app, _ = described()
    found: dict[str, Any] = app.openapi()
    return found


def objects(schema: Any, where: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every object schema in a document, with the place where it stands."""
    if isinstance(schema, list):
        for number, one in enumerate(schema):
            yield from objects(one, f"{where}/{number}")
    elif isinstance(schema, dict):
        if isinstance(schema.get("properties"), dict):
            yield where, schema
        for name, one in schema.items():
            yield from objects(one, f"{where}/{name}")


def test_it_is_current(written: str) -> None:
    assert (ROOT / "docs" / "api.md").read_text(encoding="utf-8") == written, "`make docs` writes it"


def test_every_field_says_what_it_means(document: dict[str, Any]) -> None:
    silent = [
        f"{where}: {name}"
        for where, schema in objects(document, "")
        for name, one in schema["properties"].items()
        if not one.get("description")
    ]
    assert silent == []


def test_every_parameter_and_endpoint_does_too(document: dict[str, Any]) -> None:
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert operation.get("description"), f"{method} {path}"
            for one in operation.get("parameters", []):
                assert one.get("description"), f"{method} {path}: {one['name']}"


def test_every_route_has_a_place_with_its_key(written: str) -> None:
    _, faces = described()
    for face in faces:
        for route in face.router().routes:
            if isinstance(route, APIWebSocketRoute):
                assert f"### WebSocket `{route.path}`" in written
            elif isinstance(route, APIRoute) and route.include_in_schema:
                for method in route.methods or ():
                    heading = f"### {method} `{route.path}`\n\n"
                    assert written.count(heading) == 1, heading
                    said = written.split(heading)[1].split("\n")[0]
                    assert said.endswith(("Key: `images`.", "Key: `operate`.", "No key.")), said


def test_links_within_it_lead_somewhere(written: str) -> None:
    names = {line.removeprefix("### ").lower() for line in written.splitlines() if line.startswith("### ")}
    linked = {part.split(")")[0] for part in written.split("](#")[1:]}
    assert linked - names == set()
