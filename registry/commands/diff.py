"""What looks at versions before they move: diff, and how close to the one before a new one must come."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from components.reference import DEFAULT_ALIAS, Selector
from registry.commands.printing import Json, Name, connected, make_table, printable, write
from registry.diff import Difference, diff
from registry.errors import RegistryError
from registry.gate.examine import GateSettings
from registry.gate.tolerance import set_tolerance, tolerance_of

app = typer.Typer()


@app.command("diff")
def compare(
    what: Annotated[list[str], typer.Argument(help="NAME VERSION VERSION, or two of NAME/VERSION and NAME@ALIAS.")],
    pictures: Annotated[
        Path | None, typer.Option(help="A PNG file: what the first draws, and below it the second.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare two versions: contract, size, parity, and what each makes of the first one's golden inputs."""
    registry = connected()
    first, second = (registry.resolve(selector) for selector in _two(what))
    versions = registry.version(first.name, first.version), registry.version(second.name, second.version)
    found = diff(registry, *versions, GateSettings(), None if pictures is None else pictures.absolute())
    write(found.model_dump(mode="json"), _side_by_side(found), as_json)


@app.command()
def tolerance(
    name: Name,
    decibels: Annotated[float | None, typer.Argument(help="The least PSNR in dB; left out, it is only shown.")] = None,
    alias: Annotated[str, typer.Option(help="The alias that asks for it.")] = DEFAULT_ALIAS,
    default: Annotated[bool, typer.Option("--default", help="Go back to the gate's own.")] = False,
    as_json: Json = False,
) -> None:
    """Show or state how close to the version before it a new one must come to go live under an alias, PSNR in dB."""
    if default and decibels is not None:
        raise RegistryError("--default and a number of decibels: give only one of them")
    registry = connected()
    if default or decibels is not None:
        set_tolerance(registry, name, alias, decibels)
    found = tolerance_of(registry, name, alias, GateSettings())
    table = make_table("name", "alias", "least PSNR")
    table.add_row(name, alias, "any" if found is None else f"{found:g} dB")
    write({"name": name, "alias": alias, "decibels": found}, table, as_json)


def _two(what: list[str]) -> tuple[Selector, Selector]:
    texts = [f"{what[0]}/{version}" for version in what[1:]] if len(what) == 3 else what
    if len(texts) != 2:
        raise RegistryError(f"diff: has {len(what)} arguments, must have NAME VERSION VERSION or two selectors")
    return Selector.parse(texts[0]), Selector.parse(texts[1])


def _side_by_side(found: Difference) -> Table:
    table = make_table("", str(found.first), str(found.second))
    facts: dict[str, tuple[object, object]] = {
        **found.fields,
        **{f"{name}, bytes": pair for name, pair in found.files.items()},
        "bytes": found.bytes,
        "parity.max_absolute_error": (f"{found.parity[0]:.3g}", f"{found.parity[1]:.3g}"),
    }
    for name, pair in facts.items():
        table.add_row(printable(name), *("" if value is None else printable(str(value)) for value in pair))
    for mismatch in found.not_interchangeable:
        table.add_row("not interchangeable", printable(mismatch), "")
    trial = found.trial
    if trial.compared is not None:
        # what is no number is not among them
        found_psnr = {which: trial.figures.get(f"psnr_{which}") for which in ("min", "mean")}
        figures = [f"{value:.1f} dB {which}" for which, value in found_psnr.items() if value is not None]
        table.add_row(f"PSNR, {trial.compared}", ", ".join(figures) or "not a number", "")
    for sentence in (*trial.reasons, *trial.notes):
        table.add_row("trial", printable(sentence), "")
    return table
