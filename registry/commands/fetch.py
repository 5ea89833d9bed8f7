"""What fills a node's disk before its replicas start."""

from typing import Annotated

import typer

from components.contract import Kind
from components.reference import ComponentRef, kind_of
from registry.commands.printing import Json, connected, show_refs
from registry.registry import Registry
from registry.rollout.state import ROLLOUT_TAG, Rollout, read

app = typer.Typer()


@app.command()
def fetch(
    bundle: Annotated[str, typer.Argument(help="A bundle, such as emoji.")],
    kinds: Annotated[
        list[Kind] | None, typer.Option("--kind", help="Only components of this kind; may be given several times.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Have checked copies here of what requests to a bundle are pinned to: what is live, and what is being tried.

    Where nothing was ever live that is what the alias production names. Nothing at all is no error: the first start of
    a server publishes its bundle.
    """
    registry = connected()
    refs = [ref for ref in _wanted(registry, bundle) if kinds is None or kind_of(ref.name) in kinds]
    for ref in refs:
        registry.fetch(ref)
    if not refs:
        typer.echo(f"registry: nothing of {bundle} is live that could be fetched", err=True)
    show_refs(refs, [ref.model_dump(mode="json") for ref in refs], as_json)


def _wanted(registry: Registry, bundle: str) -> tuple[ComponentRef, ...]:
    survey = registry.survey(bundle)
    rollout = read(Rollout, survey.tags.get(ROLLOUT_TAG))
    if rollout is not None:
        return tuple(dict.fromkeys(rollout.refs))
    return tuple(version.ref for version in registry.pointed_at(survey.production).versions)
