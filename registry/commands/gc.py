"""What tidies a node's disk."""

from pathlib import Path
from typing import Annotated

import typer

from compiler.settings import CompilerSettings
from registry.commands.printing import Json, make_table, write
from registry.local.gc import MOST_COMPONENT_BYTES, collect
from registry.registry import Registry
from registry.rollout.state import PLAN_TAG, ROLLOUT_TAG, Plan, Rollout, read
from registry.settings import RegistrySettings

app = typer.Typer()


@app.command()
def gc(
    most_bytes: Annotated[
        int, typer.Option(min=0, help="How much the copies of components may take.")
    ] = MOST_COMPONENT_BYTES,
    most_compiled_bytes: Annotated[
        int, typer.Option(min=0, envvar="LATENTWORKS_COMPILER__MOST_BYTES", help="The same of compiled copies.")
    ] = CompilerSettings().most_bytes,
    compiled: Annotated[
        Path | None,
        typer.Option(
            envvar="LATENTWORKS_COMPILER__FOLDER",
            help="The folder of compiled copies; `compiled` in LATENTWORKS_HOME if not given.",
        ),
    ] = None,
    whole: Annotated[bool, typer.Option("--whole", help="Read every byte of the compiled copies that stay.")] = False,
    as_json: Json = False,
) -> None:
    """Remove the longest unused copies on this node; those in use, and what may go live again, stay.

    Folders and bounds are those that a server on this node reads from the same environment. Of components there is no
    such bound: a server removes none.
    """
    settings = RegistrySettings.from_environment()
    folder = settings.home / "compiled" if compiled is None else compiled
    compiler = CompilerSettings(folder=folder, most_bytes=most_compiled_bytes)
    found = collect(settings, compiler, _kept(Registry.connect(settings)), most_bytes, whole=whole)
    table = make_table("removed", "bytes", "why")
    for removed in (*found.components, *found.compiled):
        table.add_row(removed.name, f"{removed.bytes_freed:,}", removed.reason)
    table.add_row("", f"{found.bytes_freed:,}", "freed")
    table.add_row("", f"{found.component_bytes:,}", "components, which stay")
    table.add_row("", f"{found.compiled_bytes:,}", "compiled copies, which stay")
    data = {
        "removed": [
            {"name": removed.name, "bytes": removed.bytes_freed, "reason": removed.reason}
            for removed in (*found.components, *found.compiled)
        ],
        "bytes_freed": found.bytes_freed,
        "component_bytes": found.component_bytes,
        "compiled_bytes": found.compiled_bytes,
    }
    write(data, table, as_json)


def _kept(registry: Registry) -> set[str]:
    """The digests of all versions that an alias points at, that a rollout serves, or that a rollback returns to."""
    pointed_at = (version for name in registry.names() for version in registry.versions(name) if version.aliases)
    kept = {version.ref.sha256 for version in pointed_at}
    for bundle in {name.split(".")[0] for name in registry.names()}:
        tags = registry.survey(bundle).tags
        plan, rollout = read(Plan, tags.get(PLAN_TAG)), read(Rollout, tags.get(ROLLOUT_TAG))
        for state in (plan, rollout):
            if state is not None:
                kept |= {ref.sha256 for ref in state.refs}
        if plan is not None:
            kept |= {ref.sha256 for ref in plan.replaced}
        if rollout is not None:
            kept |= {ref.sha256 for ref in (*rollout.previous, *rollout.former)}
    return kept
