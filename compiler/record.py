"""`copy.json` beside a compiled copy: of what it is one, and by what to know that it is whole.

Each opening checks the record's own digest, the size and time of change of every file, and the sha256 of the graph and
of 64 blocks spread over the weights: milliseconds, where the whole of 4.5 GB takes 2.5 s, longer than opening it. So a
truncated, replaced or rewritten file and a damaged record are always found. What was changed in place, in the weights
and outside those blocks, with the time of change put back, is found by `verify`, not by `check`.
"""

import hashlib
import os
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from compiler.errors import CompilerError
from compiler.key import cpu_features
from components.folder import ComponentFolder, sha256
from components.manifest import Sha256
from components.record import Record
from runtime.compiled import COMPILED_GRAPH, COMPILED_WEIGHTS, recipe

RECORD_NAME = "copy.json"
LEASE_NAME = "lease"
_MAX_RECORD_BYTES = 1 << 20
_BLOCKS, _BLOCK_BYTES = 64, 4096
# a graph, and the weights of a small component, are read as a whole: 5 ms
_WHOLE_BYTES = 8 << 20


class CopiedFile(Record):
    """One file of a copy: its size in bytes, when it was changed, the sha256 of all of it and of some blocks."""

    size: int = Field(ge=0)
    changed_ns: int
    sha256: Sha256
    blocks: Sha256


class CopyRecord(Record):
    """What a copy was made of, and its files."""

    format: Literal[1] = 1
    component: Sha256 = Field(description="the digest of the component")
    recipe: dict[str, str]
    cpu: Sha256
    seconds: float = Field(ge=0, description="how long it took to make and to test it")
    files: dict[str, CopiedFile] = Field(min_length=1)

    @property
    def usable(self) -> bool:
        """Whether it was made by this version of ONNX Runtime, for this CPU."""
        return (self.recipe, self.cpu) == (recipe(), cpu_features())

    @property
    def bytes_on_disk(self) -> int:
        """The size of all its files, in bytes."""
        return sum(file.size for file in self.files.values())


class _Sealed(Record):
    """The record with its own digest."""

    digest: Sha256
    record: CopyRecord


def write_record(copy: Path, folder: ComponentFolder, seconds: float) -> CopyRecord:
    """Bring the files of a fresh copy to the disk, take down what they are, and write its record and lease file.

    Raises:
        OSError: the disk cannot be written.
    """
    names = [name for name in (COMPILED_GRAPH, COMPILED_WEIGHTS) if (copy / name).exists()]
    for name in names:
        (copy / name).chmod(0o644)
        # or a machine that loses its power could have the name, the size and the time, and not the content
        _sync(copy / name)
    record = CopyRecord(
        component=folder.digest,
        recipe=recipe(),
        cpu=cpu_features(),
        seconds=seconds,
        files={name: _describe(copy / name) for name in names},
    )
    sealed = _Sealed(digest=_seal(record), record=record)
    (copy / RECORD_NAME).write_text(sealed.model_dump_json(indent=2) + "\n", encoding="utf-8")
    (copy / LEASE_NAME).touch()
    for path, mode in ((copy / RECORD_NAME, 0o644), (copy / LEASE_NAME, 0o644), (copy, 0o755)):
        path.chmod(mode)
    _sync(copy / RECORD_NAME)
    return record


def read_record(copy: Path) -> CopyRecord:
    """The record of a copy.

    Raises:
        CompilerError: it is missing, or not what was written.
    """
    file = copy / RECORD_NAME
    try:
        if file.stat().st_size > _MAX_RECORD_BYTES:
            raise CompilerError(f"{RECORD_NAME} is too large to be one")
        sealed = _Sealed.model_validate_json(file.read_bytes())
    except OSError as error:
        raise CompilerError(f"{RECORD_NAME} cannot be read ({type(error).__name__})") from None
    except ValidationError as error:
        raise CompilerError(f"{RECORD_NAME} is no record: {error.errors(include_url=False)[0]['msg']}") from None
    if sealed.digest != _seal(sealed.record):
        raise CompilerError(f"{RECORD_NAME} was changed")
    return sealed.record


def check(copy: Path) -> CopyRecord:
    """Read a copy's record and hold its files to it, in milliseconds; this page's head says what is found.

    Raises:
        CompilerError: the copy is damaged; the message says where.
    """
    record = read_record(copy)
    for name, expected in record.files.items():
        try:
            found = (copy / name).stat()
            if (found.st_size, found.st_mtime_ns) != (expected.size, expected.changed_ns):
                raise CompilerError(f"{name} is not the file that was made: {found.st_size} of {expected.size} bytes")
            if _blocks(copy / name) != expected.blocks:
                raise CompilerError(f"the content of {name} was changed")
        except OSError as error:
            raise CompilerError(f"{name} cannot be read ({type(error).__name__})") from None
    return record


def verify(copy: Path) -> CopyRecord:
    """Do what `check` does, and read every byte: some seconds for gigabytes.

    Raises:
        CompilerError: the copy is damaged; the message says where.
    """
    record = check(copy)
    for name, expected in record.files.items():
        if sha256(copy / name) != expected.sha256:
            raise CompilerError(f"the content of {name} was changed")
    return record


def _seal(record: CopyRecord) -> str:
    return hashlib.sha256(record.model_dump_json().encode()).hexdigest()


def _describe(file: Path) -> CopiedFile:
    found = file.stat()
    return CopiedFile(size=found.st_size, changed_ns=found.st_mtime_ns, sha256=sha256(file), blocks=_blocks(file))


def _blocks(file: Path) -> str:
    """The sha256 of evenly spread blocks, the first and the last among them; of all of a small file."""
    digest = hashlib.sha256()
    with file.open("rb", buffering=0) as stream:
        size = os.fstat(stream.fileno()).st_size
        if size <= _WHOLE_BYTES:
            return hashlib.file_digest(stream, "sha256").hexdigest()
        last = size - _BLOCK_BYTES
        for block in range(_BLOCKS):
            stream.seek(last * block // (_BLOCKS - 1))
            digest.update(stream.read(_BLOCK_BYTES))
    return digest.hexdigest()


def _sync(file: Path) -> None:
    with file.open("rb") as stream:
        os.fsync(stream.fileno())
