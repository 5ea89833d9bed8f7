"""`python -m compiler`: make the compiled copies of component folders on this node, before anybody is served."""

from pathlib import Path
from typing import Annotated

import typer

from compiler.copies import CompiledCopies
from compiler.errors import CompilerError
from compiler.settings import CompilerSettings
from components.errors import ComponentError
from components.folder import ComponentFolder
from runtime.settings import SessionSettings


def main(
    components: Annotated[list[Path], typer.Argument(help="component folders")],
    copies: Annotated[Path, typer.Option(help="where the copies are kept")] = Path("~/.latentworks/compiled"),
    threads: Annotated[int | None, typer.Option(min=1, max=1024, help="of the tests; every core if not given")] = None,
) -> None:
    """Compile components for this node: in an init container, say, so that even the first replicas share the copies."""
    settings = CompilerSettings(folder=copies)
    try:
        for component in components:
            folder = ComponentFolder.open(component)
            folder.verify()
            made = CompiledCopies(settings).build(folder, SessionSettings(threads=threads, provider="cpu"))
            typer.echo(f"{component}: {made}")
    except (CompilerError, ComponentError) as error:
        typer.echo(f"compiler: {error}", err=True)
        raise typer.Exit(1) from None


if __name__ == "__main__":
    typer.run(main)
