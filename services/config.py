"""`python -m services.config FILE`: Ray Serve's config file of a graph, made from a file of its typed arguments.

What Serve is told of a deployment stands in that deployment's entry, and so do the options of a stage, in its own
environment: a change of either touches that deployment alone. Everything else is the application's environment, and a
change of it starts all deployments anew.
"""

import json
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
import yaml
from pydantic import BaseModel, SecretStr, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from registry.settings import RegistrySettings
from services.deployment_args import TOLD_TO_SERVE, DeploymentArgs
from services.own_options import own_fields
from services.settings import GraphArgs
from services.stage_args import StageArgs
from services.variables import variable_of
from services.wrong_arguments import sentence_of

PORT = 8000

_NOTE = "# Written by `make manifests` from {file}: change that.\n"


class ConfigError(ValueError):
    """A file of arguments from which no config can be made."""


class _FileArgs(GraphArgs):
    """The graph's arguments as a file says them, whatever the environment of whoever reads it."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - pydantic's name
        init_settings: PydanticBaseSettingsSource,
        *_: Any,
        **_others: Any,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)


def read_args(text: str) -> GraphArgs:
    """The arguments of a YAML text: parts with their fields, as docs/settings.md names them.

    Raises:
        ConfigError: it is no such text, or names what belongs into the pods' environment.
    """
    try:
        given = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"is no YAML: {' '.join(str(error).split())}") from None
    if not isinstance(given, dict):
        raise ConfigError("must be a mapping of parts and their fields")
    if "registry" in given:
        raise ConfigError("registry: is named by its own variables, in the pods' environment")
    try:
        args = _FileArgs(**given, registry=RegistrySettings())
    except ValidationError as error:
        raise ConfigError(sentence_of(error)) from None
    try:
        args.require_room()
    except ValueError as error:
        raise ConfigError(str(error)) from None
    _require_no_secret(args)
    return args


def serve_config(args: GraphArgs) -> dict[str, Any]:
    """The config of a graph's application, as `serve deploy` and a RayService take it."""
    application: dict[str, Any] = {"name": "default", "route_prefix": "/", "import_path": "ray_app:configured"}
    common = dict(_common(args))
    if common:
        application["runtime_env"] = {"env_vars": common}
    parts = ((name, part) for name, part in args if isinstance(part, DeploymentArgs))
    application["deployments"] = [_deployment(name, part) for name, part in parts]
    return {
        "proxy_location": "EveryNode",
        "http_options": {"host": "0.0.0.0", "port": PORT},
        "logging_config": {"encoding": "JSON"},
        "applications": [application],
    }


def config_text(args: GraphArgs) -> str:
    """The config in YAML."""
    text: str = yaml.safe_dump(serve_config(args), sort_keys=False, width=120)
    return text


def patch_text(args: GraphArgs, name: str, file: str) -> str:
    """A patch for Kustomize that puts the config into the RayService of a name; `file` is what it is made from."""
    head = f"apiVersion: ray.io/v1\nkind: RayService\nmetadata:\n  name: {name}\nspec:\n  serveConfigV2: |\n"
    return _NOTE.format(file=file) + head + textwrap.indent(config_text(args), 4 * " ")


def _deployment(name: str, part: DeploymentArgs) -> dict[str, Any]:
    options = part.serve_options()
    if isinstance(part, StageArgs):
        own = {field: getattr(part, field) for field in own_fields(type(part)) if field in part.model_fields_set}
        defaults = type(part).model_fields
        for field, value in own.items():
            if value is None and defaults[field].default is not None:
                raise ConfigError(f"{name}.{field}: cannot be unset, as {defaults[field].default} is the default")
        variables = {variable_of(name, field): _text(value) for field, value in own.items() if value is not None}
        if variables:
            options["ray_actor_options"]["runtime_env"] = {"env_vars": variables}
    return {"name": name, **_plain(options)}


def _common(args: GraphArgs) -> Iterator[tuple[str, str]]:
    for name in sorted(args.model_fields_set - {"registry"}):
        part = getattr(args, name)
        if not isinstance(part, StageArgs):
            told_to_serve = TOLD_TO_SERVE if isinstance(part, DeploymentArgs) else frozenset[str]()
            yield from _variables((name,), part, told_to_serve)


def _variables(path: tuple[str, ...], value: Any, without: frozenset[str] = frozenset()) -> Iterator[tuple[str, str]]:
    if isinstance(value, BaseModel):
        for field in sorted(value.model_fields_set - without):
            yield from _variables((*path, field), getattr(value, field))
    elif value is not None:
        yield variable_of(*path), _text(value)


def _text(value: Any) -> str:
    return str(value) if isinstance(value, str | Path) else json.dumps(value)


def _plain(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options without a fraction that is none."""
    return {
        name: _plain(value)
        if isinstance(value, Mapping)
        else int(value)
        if isinstance(value, float) and value.is_integer()
        else value
        for name, value in options.items()
    }


def _require_no_secret(part: BaseModel, *path: str) -> None:
    for field in part.model_fields_set:
        value, where = getattr(part, field), (*path, field)
        if isinstance(value, SecretStr):
            raise ConfigError(
                f"{'.'.join(where)}: is a secret; name it as {variable_of(*where)} in the pods' environment"
            )
        if isinstance(value, BaseModel) and not isinstance(value, RegistrySettings):
            _require_no_secret(value, *where)


def _fail(sentence: str) -> NoReturn:
    typer.echo(sentence, err=True)
    raise typer.Exit(1)


def main(
    file: Annotated[Path, typer.Argument(help="YAML: the graph's arguments, parts with their fields")],
    rayservice: Annotated[
        str | None, typer.Option(help="write a patch for Kustomize for the RayService of this name")
    ] = None,
) -> None:
    """Print the config, for `serve deploy` or as a patch."""
    try:
        args = read_args(file.read_text(encoding="utf-8"))
    except OSError as error:
        _fail(f"{file}: {error.strerror}")
    except ConfigError as error:
        _fail(f"{file}: {error}")
    text = config_text(args) if rayservice is None else patch_text(args, rayservice, file.name)
    typer.echo(text, nl=False)


if __name__ == "__main__":
    typer.run(main)
