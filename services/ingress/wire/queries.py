"""How faces describe the fields of their queries, for the OpenAPI document."""

from typing import Any


def query_field(
    name: str, description: str, schema: dict[str, Any] | None = None, *, required: bool = False
) -> dict[str, Any]:
    """One field of a query, a text unless `schema` says otherwise."""
    schema = {"type": "string"} if schema is None else schema
    return {"name": name, "in": "query", "required": required, "schema": schema, "description": description}


def with_query(*fields: dict[str, Any]) -> dict[str, Any]:
    """What a route has beside its own description where its query has these fields."""
    return {"parameters": list(fields)}


USER = query_field("user", "whose it is: the `user` that was named when it was asked for; with keys a job is its key's")
