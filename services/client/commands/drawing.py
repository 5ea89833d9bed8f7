"""`draw`, `edit` and `vary`: pictures into files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from services.client.commands.destination import Destination, Force, Out
from services.client.commands.following import Screen, follow, tell
from services.client.commands.printing import Json, KeyFile, Url, connected, read_file
from services.client.commands.settings import with_settings
from services.client.options import EditOptions, Options

app = typer.Typer()

Prompt = Annotated[str, typer.Argument(help="What to draw.")]
Image = Annotated[Path, typer.Argument(help="The picture to begin with.")]
ShowPreview = Annotated[
    bool | None,
    typer.Option("--preview/--no-preview", help="Show pictures; if not given, where the terminal says that it can."),
]


@app.command()
@with_settings(Options)
def draw(
    prompt: Prompt,
    out: Out,
    settings: Options,
    force: Force = False,
    preview: ShowPreview = None,
    url: Url = None,
    key_file: KeyFile = None,
    as_json: Json = False,
) -> None:
    """Draw pictures from a prompt."""
    destination = _destination(out, settings, force)
    screen = Screen.of(preview, as_json=as_json)
    with connected(url, key_file) as client:
        events = client.stream(prompt, previews=screen.previews, **settings)
        made = follow(events, screen, destination)
    tell(made, as_json)


@app.command()
@with_settings(EditOptions)
def edit(
    image: Image,
    prompt: Prompt,
    out: Out,
    settings: EditOptions,
    mask: Annotated[
        Path | None, typer.Option(help="What of it to draw anew: where this picture is transparent, or white.")
    ] = None,
    depth: Annotated[
        Path | None, typer.Option(help="For models that see it: a picture that is the lighter the nearer things are.")
    ] = None,
    force: Force = False,
    preview: ShowPreview = None,
    url: Url = None,
    key_file: KeyFile = None,
    as_json: Json = False,
) -> None:
    """Draw pictures from a prompt and a picture."""
    destination = _destination(out, settings, force)
    screen = Screen.of(preview, as_json=as_json)
    source = read_file("IMAGE", image)
    beside = [None if one is None else read_file(name, one) for name, one in (("--mask", mask), ("--depth", depth))]
    with connected(url, key_file) as client:
        events = client.stream_edit(source, prompt, *beside, previews=screen.previews, **settings)
        made = follow(events, screen, destination)
    tell(made, as_json)


@app.command()
@with_settings(EditOptions)
def vary(
    image: Image,
    out: Out,
    settings: EditOptions,
    force: Force = False,
    preview: ShowPreview = None,
    url: Url = None,
    key_file: KeyFile = None,
    as_json: Json = False,
) -> None:
    """Draw pictures like one."""
    destination = _destination(out, settings, force)
    screen = Screen.of(preview, as_json=as_json)
    source = read_file("IMAGE", image)
    with connected(url, key_file) as client:
        events = client.stream_vary(source, previews=screen.previews, **settings)
        made = follow(events, screen, destination)
    tell(made, as_json)


def _destination(out: Path, settings: Options | EditOptions, force: bool) -> Destination:
    """Where pictures go; the format that a file's name says is asked for."""
    pictures = settings.get("n", 1)
    destination = Destination.of(out, pictures, settings.get("output_format"), force=force)
    settings["output_format"] = destination.format
    destination.require_free(_seeds(settings, pictures))
    return destination


def _seeds(settings: Options | EditOptions, pictures: int) -> Sequence[tuple[int, int | None]]:
    """What the pictures are drawn from, as far as it is said before."""
    if "seed" not in settings:
        return []
    seed = settings["seed"]
    if not settings.get("subseed_strength"):
        return [(seed + index, None) for index in range(pictures)]
    return [(seed, settings["subseed"] + index) for index in range(pictures)] if "subseed" in settings else []
