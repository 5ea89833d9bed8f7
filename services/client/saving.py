"""Pictures to files: whole or not at all, and never over another."""

import os
from pathlib import Path

from services.client.errors import ClientError
from services.client.options import PictureFormat

SUFFIX_OF: dict[PictureFormat, str] = {"png": ".png", "jpeg": ".jpg", "webp": ".webp"}
_PART = ".part"


class SavingError(ClientError):
    """A file cannot be written, or is there already."""


def by_seeds(seed: int, subseed: int | None, format_: PictureFormat, mark: str = "") -> str:
    """A file's name by what the picture was drawn from."""
    varied = "" if subseed is None else f"-{subseed}"
    return f"{seed}{varied}{mark}{SUFFIX_OF[format_]}"


def part_of(path: Path) -> Path:
    """The file that is to become `path` once it is whole."""
    return path.with_name(f".{path.name}{_PART}")


def write_part(path: Path, data: bytes) -> Path:
    """Write what is to become `path` beside it, down to the disk.

    Raises:
        SavingError: it cannot be written.
    """
    part = part_of(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise SavingError(f"{path}: cannot be written: {error.strerror}") from None
    return part


def place(path: Path, *, force: bool = False) -> None:
    """Let the part of `path` become it, with `force` in place of what is there.

    Raises:
        SavingError: a file is there, or it cannot be written.
    """
    part = part_of(path)
    try:
        if force:
            part.replace(path)
            return
        _link(part, path)
        part.unlink(missing_ok=True)
    except FileExistsError:
        raise SavingError(f"{path}: is there already") from None
    except OSError as error:
        raise SavingError(f"{path}: cannot be written: {error.strerror}") from None


def _link(part: Path, path: Path) -> None:
    try:
        os.link(part, path)
    except FileExistsError:
        raise
    except OSError:
        # a file system without links; to look and then to write is the nearest to it there
        if path.exists():
            raise FileExistsError from None
        part.rename(path)
