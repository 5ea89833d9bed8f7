"""`component.json`: the contract, the digest of every file, where the component came from, how exact it is."""

from pathlib import PurePosixPath
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from components.contract import Contract
from components.record import Record

MANIFEST_NAME = "component.json"
MAX_PATH_BYTES = 255


def _inside(path: str) -> str:
    if len(path.encode("utf-8", "backslashreplace")) > MAX_PATH_BYTES or not path.isprintable():
        raise ValueError(f"a path of {len(path)} characters: must be printable and at most {MAX_PATH_BYTES} bytes")
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or "\\" in path or ":" in parts[0]:
        raise ValueError(f"{path!r}: must be a relative path that stays inside the component's folder")
    if str(PurePosixPath(path)) != path or path == MANIFEST_NAME:
        raise ValueError(f"{path!r}: must be written in its shortest form and not be {MANIFEST_NAME} itself")
    return path


RelativePath = Annotated[str, AfterValidator(_inside)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class FileRecord(Record):
    """The size in bytes and the sha256 of one file."""

    size: int = Field(ge=0)
    sha256: Sha256


class Edit(Record):
    """A file that changed the model before it was exported: `scale` of a LoRA, `token` of a textual inversion."""

    kind: Literal["lora", "textual_inversion", "image_prompt"]
    file: str
    sha256: Sha256
    scale: float | None = None
    token: str | None = None


class Origin(Record):
    """Where a component came from: the model it was exported from and the versions that exported it."""

    source: str
    licence: str | None = None
    training_run: str | None = Field(None, description="the id of the run that trained it, where its training told")
    exporter: dict[str, str] = Field(description="package name to version")
    edits: tuple[Edit, ...] = Field((), description="what was merged into the model's weights, in order")


class Parity(Record):
    """How close the exported graph came to torch, in fp32, at shapes it was not exported at."""

    max_absolute_error: float = Field(ge=0)
    shapes: dict[str, tuple[int, ...]] = Field(description="the input shapes of the comparison")


class GoldenCase(Record):
    """Inputs and torch's outputs in one .npz file, with keys `input.<name>` and `output.<name>`.

    The gate bounds the tolerance, whatever is stated; see docs/gate.md.
    """

    file: RelativePath
    tolerance: float = Field(gt=0, description="maximum absolute error of a faithful copy in fp32")


class Manifest(Record):
    """The content of `component.json`."""

    format: Literal[1] = 1
    contract: Contract
    graphs: dict[str, RelativePath] = Field(min_length=1, description="the graphs over the one weight file, by name")
    weights: Literal["float16", "float32"] = Field(description="how the weights are stored; they are computed in fp32")
    files: dict[RelativePath, FileRecord] = Field(min_length=1, description="every file of the folder but this one")
    golden: tuple[GoldenCase, ...] = ()
    parity: Parity
    origin: Origin

    @model_validator(mode="after")
    def _lists_every_file_it_names(self) -> Self:
        named = [*self.graphs.values(), *(case.file for case in self.golden)]
        if missing := sorted(set(named) - self.files.keys()):
            raise ValueError(f"files: {', '.join(missing)} is named but not listed")
        return self
