"""A drawing followed: a bar of its steps, previews, and its files as soon as they are there."""

import os
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from services.client.answers import public
from services.client.commands.destination import Destination
from services.client.commands.picturing import show
from services.client.commands.printing import say, write
from services.client.commands.terminal import Graphics, graphics_of
from services.client.errors import InputError
from services.client.events import Event, Finished, Preview, Queued, Step

PREVIEWS = 2


@dataclass(frozen=True, slots=True)
class Screen:
    """What a person looks at, on stderr; `graphics` is how pictures are shown there, None for not at all."""

    console: Console
    graphics: Graphics | None

    @classmethod
    def of(cls, preview: bool | None, *, as_json: bool) -> "Screen":
        """The terminal that stderr is; pictures are shown where it says that it can, as blocks only if asked for.

        Raises:
            InputError: previews are asked for, and there is no terminal.
        """
        console = Console(stderr=True, markup=False, highlight=False)
        if preview and not console.is_terminal:
            raise InputError("--preview: needs a terminal")
        if preview is False or not console.is_terminal or (as_json and not preview):
            return cls(console, None)
        graphics = graphics_of(os.environ)
        return cls(console, graphics if preview or graphics is not Graphics.BLOCKS else None)

    @property
    def previews(self) -> int:
        """How many previews of each picture are worth asking for."""
        return 0 if self.graphics is None else PREVIEWS

    def bar(self) -> Progress:
        """A bar with its task's description, gone at its end; none where there is no terminal."""
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        return Progress(*columns, console=self.console, transient=True, disable=not self.console.is_terminal)


def follow(
    events: Generator[Event, None, None], screen: Screen, destination: Destination
) -> list[tuple[Path, Finished]]:
    """Show a drawing and save its pictures.

    Raises:
        ClientError: it came to nothing, or a file cannot be written.
    """
    made: list[tuple[Path, Finished]] = []
    walked: dict[int, int] = {}
    with closing(events), screen.bar() as bar:
        task = bar.add_task("steps", total=None)
        for event in events:
            match event:
                case Queued(position=position) if not walked:
                    bar.update(task, description=f"number {position} in the queue")
                case Step():
                    walked[event.image] = event.step
                    total, done = event.steps * len(walked), sum(walked.values())
                    bar.update(task, description="steps", total=total, completed=done)
                case Preview():
                    _picture(screen, bar, event.data)
                case Finished(picture=picture):
                    path = destination.save(picture.data, picture.seed, picture.subseed)
                    made.append((path, event))
                    _picture(screen, bar, picture.data)
    return made


def tell(made: list[tuple[Path, Finished]], as_json: bool) -> None:
    """Say what was drawn, and what of the texts had no effect."""
    first = made[0][1]
    for field, cut in (("prompt", first.prompt_truncated), ("negative prompt", first.negative_prompt_truncated)):
        if cut:
            say(f"the {field} is longer than the model reads; its end has no effect")
    if as_json:
        pictures: list[dict[str, Any]] = [{"file": str(path), **public(one.picture)} for path, one in made]
        beside = public(first)
        named = ("size", "components", "prompt_truncated", "negative_prompt_truncated", "request_id")
        usage = {
            name: sum(getattr(one.usage, name) for _, one in made)
            for name in ("input_tokens", "output_tokens", "total_tokens")
        }
        write({"pictures": pictures, **{name: beside[name] for name in named}, "usage": usage}, [], as_json)
        return
    for path, one in made:
        picture = one.picture
        varied = "" if picture.subseed is None else f", subseed {picture.subseed}"
        kept = "" if picture.latents is None else f", latents {picture.latents}"
        helped = "" if picture.fallback is None else f", by {picture.fallback} in place of the pinned VAE decoder"
        typer.echo(f"{path}: seed {picture.seed}{varied}{kept}{helped}")


def _picture(screen: Screen, bar: Progress, data: bytes) -> None:
    if screen.graphics is not None:
        # a bar that moves would be drawn over it
        bar.stop()
        show(screen.console, data, screen.graphics)
        bar.start()
