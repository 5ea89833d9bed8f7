"""`python -m services.reference FILE`: the page that lists every setting, made from the code."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from registry.settings import VARIABLES, RegistrySettings
from services.settings import GraphArgs
from services.variables import PREFIX

_INTRODUCTION = """\
# Settings

Written by `make docs`. A setting is an argument of the start (`python ray_app.py denoiser.replicas=2`, or
`serve run ray_app:build denoiser.replicas=2`), or an environment variable (`LATENTWORKS_DENOISER__REPLICAS=2`).
"""


def page() -> str:
    """The whole page, in Markdown."""
    parts = [_INTRODUCTION, *_section("The graph", "", _own_fields(GraphArgs))]
    for name, info in GraphArgs.model_fields.items():
        if (model := _model(info)) is not None and model is not RegistrySettings:
            parts += _section(name, f"{name}.", model.model_fields, _summary(model))
    note = "Environment variables; as arguments they are `registry.home=FOLDER` and so on."
    parts += ["## The registry", note, _registry_table()]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _own_fields(model: type[BaseModel]) -> dict[str, FieldInfo]:
    return {name: info for name, info in model.model_fields.items() if _model(info) is None}


def _model(info: FieldInfo) -> type[BaseModel] | None:
    kind = info.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _summary(model: type[BaseModel]) -> str:
    return " ".join((model.__doc__ or "").split("\n\n")[0].split())


def _section(title: str, prefix: str, fields: dict[str, FieldInfo], summary: str = "") -> Iterator[str]:
    yield f"## {title}"
    if summary:
        yield summary
    rows = [
        f"| `{prefix}{name}` | `{PREFIX}{prefix.replace('.', '__').upper()}{name.upper()}` "
        f"| {_default(info)} | {info.description or ''} |"
        for name, info in fields.items()
    ]
    yield "\n".join(["| argument | variable | default | meaning |", "|---|---|---|---|", *rows])


def _registry_table() -> str:
    fields = RegistrySettings.model_fields
    rows = [
        f"| `{variable}` | {_default(fields[name])} | {fields[name].description or ''} |"
        for variable, name in VARIABLES.items()
    ]
    return "\n".join(["| variable | default | meaning |", "|---|---|---|", *rows])


def _default(info: FieldInfo) -> str:
    if info.default is PydanticUndefined or info.default is None:
        return "unset"
    return f"`{info.default}`"


def main(file: Annotated[Path, typer.Argument(help="where the page goes")]) -> None:
    """Write the page."""
    file.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
