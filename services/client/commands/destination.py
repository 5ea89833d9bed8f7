"""Where a command's pictures go, looked at before anything is drawn."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from services.client.errors import InputError
from services.client.options import PictureFormat
from services.client.saving import by_seeds, part_of, place, write_part

SUFFIXES: dict[str, PictureFormat] = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp"}

Out = Annotated[
    Path, typer.Option(help=f"A file, ending in {', '.join(SUFFIXES)}, or a folder, where files are named by seed.")
]
Force = Annotated[bool, typer.Option("--force", help="Write over files that are there.")]


@dataclass(frozen=True, slots=True)
class Destination:
    """Where pictures go: into `folder`, by their seeds or all as `name`."""

    folder: Path
    name: str | None
    format: PictureFormat
    force: bool = False

    @classmethod
    def of(cls, out: Path, pictures: int, format_: PictureFormat | None, *, force: bool = False) -> "Destination":
        """What a path means: one with a picture's ending is a file, one without any is a folder.

        Raises:
            InputError: it is neither, or a file for several pictures, or one of another format.
        """
        suffix = out.suffix.lower()
        if out.is_dir() or not suffix:
            return cls(out, None, "png" if format_ is None else format_, force)
        if suffix not in SUFFIXES:
            raise InputError(f"--out: must end in one of {', '.join(SUFFIXES)}, or be a folder")
        if format_ not in (None, SUFFIXES[suffix]):
            raise InputError(f"--out: ends in {suffix}, and --output-format is {format_}")
        if pictures != 1:
            raise InputError(f"--out: must be a folder where --n is {pictures}")
        return cls(out.parent, out.name, SUFFIXES[suffix], force)

    def path(self, seed: int, subseed: int | None) -> Path:
        """The file of a picture."""
        return self.folder / (by_seeds(seed, subseed, self.format) if self.name is None else self.name)

    def require_free(self, seeds: Sequence[tuple[int, int | None]]) -> None:
        """Look whether files are in the way, by the seeds that are known.

        Raises:
            InputError: one is, and may not be written over.
        """
        named = [self.folder / self.name] if self.name is not None else [self.path(*each) for each in seeds]
        for path in named:
            if path.exists() and not self.force:
                raise InputError(f"{path}: is there already; --force writes over it")

    def save(self, data: bytes, seed: int, subseed: int | None) -> Path:
        """Write a picture's file.

        Raises:
            SavingError: it cannot be written, or another has come there meanwhile.
        """
        path = self.path(seed, subseed)
        write_part(path, data)
        try:
            place(path, force=self.force)
        finally:
            part_of(path).unlink(missing_ok=True)
        return path
