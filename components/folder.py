"""A component on disk: a folder with `component.json` and the files that it lists."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from components.errors import ComponentError
from components.manifest import MANIFEST_NAME, FileRecord, Manifest

MAIN_GRAPH = "main"
# of a text encoder's tokenizers, in the order of the contract's inputs
TOKENIZER_NAMES = ("tokenizer.json", "tokenizer_2.json")
MAX_MANIFEST_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class ComponentFolder:
    """A component folder whose manifest has been read."""

    path: Path
    manifest: Manifest

    @classmethod
    def open(cls, path: Path) -> "ComponentFolder":
        """Read a folder's manifest and check that every listed file is there in its listed size.

        Raises:
            ComponentError: the manifest is missing or wrong, or a file is missing, a link, or of another size.
        """
        folder = cls(path, read_manifest(path))
        for name, record in folder.manifest.files.items():
            if (size := _size(path, name)) != record.size:
                raise ComponentError(f"{_named(path)}: {name} has {size} bytes, {MANIFEST_NAME} says {record.size}")
        return folder

    @property
    def digest(self) -> str:
        """The sha256 of `component.json`, which names the sha256 of everything else: it identifies the component.

        Raises:
            ComponentError: the manifest cannot be read any more.
        """
        return _sha256(self.path, MANIFEST_NAME)

    def verify(self) -> None:
        """Check the sha256 of every file.

        Raises:
            ComponentError: a file's content is not what the manifest says, or a file is there that it does not list.
        """
        for name, record in self.manifest.files.items():
            if _sha256(self.path, name) != record.sha256:
                raise ComponentError(f"{_named(self.path)}: the content of {name} is not what {MANIFEST_NAME} says")
        if unlisted := sorted(_files(self.path) - self.manifest.files.keys()):
            raise ComponentError(f"{_named(self.path)}: {', '.join(unlisted)}: not listed in {MANIFEST_NAME}")

    def graph(self, name: str = MAIN_GRAPH) -> Path:
        """The path of one of its ONNX graphs.

        Raises:
            ComponentError: it has no graph of that name.
        """
        if name not in self.manifest.graphs:
            known = ", ".join(sorted(self.manifest.graphs))
            raise ComponentError(f"{_named(self.path)}: no graph {name!r}; it has {known}")
        return self.path / self.manifest.graphs[name]


def read_manifest(path: Path) -> Manifest:
    """The manifest of a folder, whose other files need not be there yet.

    Raises:
        ComponentError: it is missing, a link, larger than `MAX_MANIFEST_BYTES`, or not a manifest.
    """
    if not os.path.lexists(path / MANIFEST_NAME):
        raise ComponentError(f"{_named(path)}: no {MANIFEST_NAME}; is this a component folder?")
    if (size := _size(path, MANIFEST_NAME)) > MAX_MANIFEST_BYTES:
        raise ComponentError(f"{_named(path)}: {MANIFEST_NAME} has {size} bytes; at most {MAX_MANIFEST_BYTES}")
    try:
        text = (path / MANIFEST_NAME).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ComponentError(f"{_named(path)}: {MANIFEST_NAME} cannot be read: {type(error).__name__}") from None
    try:
        return Manifest.model_validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the text"
        raise ComponentError(f"{_named(path)}: {MANIFEST_NAME}: {where}: {first['msg']}") from None


def record_files(path: Path) -> dict[str, FileRecord]:
    """Size and sha256 of every file below `path` but the manifest, by relative path: the `files` of a manifest."""
    return {
        name: FileRecord(size=(path / name).stat().st_size, sha256=sha256(path / name)) for name in sorted(_files(path))
    }


def write_manifest(path: Path, manifest: Manifest) -> ComponentFolder:
    """Write `component.json` into a folder that holds all other files already, and open it."""
    (path / MANIFEST_NAME).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return ComponentFolder.open(path)


def sha256(file: Path) -> str:
    """The sha256 of a file, in hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _files(path: Path) -> set[str]:
    files = (file for file in path.rglob("*") if not file.is_dir() or file.is_symlink())
    return {file.relative_to(path).as_posix() for file in files} - {MANIFEST_NAME}


def _size(path: Path, name: str) -> int:
    file = path / name
    try:
        if any(part.is_symlink() for part in (file, *file.parents) if part.is_relative_to(path) and part != path):
            raise ComponentError(f"{_named(path)}: {name} is a link; a component holds its own files")
        if not file.is_file():
            raise ComponentError(f"{_named(path)}: {name} is missing")
        return file.stat().st_size
    except OSError as error:
        raise ComponentError(f"{_named(path)}: {name} cannot be read: {type(error).__name__}") from None


def _sha256(path: Path, name: str) -> str:
    try:
        return sha256(path / name)
    except OSError as error:
        raise ComponentError(f"{_named(path)}: {name} cannot be read: {type(error).__name__}") from None


def _named(path: Path) -> str:
    return path.absolute().name
