"""What a gate asks of the child process that tries a component, and what that answers."""

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from pydantic import Field

from components.contract import Kind
from components.record import Record

# what turns a prompt into a picture, and of that the kinds that are tried by drawing some
CHAIN = (Kind.TEXT_ENCODER, Kind.DENOISER, Kind.VAE_DECODER)
DRAWN = (Kind.TEXT_ENCODER, Kind.DENOISER)

_ONNX_RUNTIMES = ("onnxruntime-gpu", "onnxruntime")


class TrialOrder(Record):
    """What to try, beside what, against what, and how far it may go; paths are of component folders.

    `tolerance_db` is the least PSNR against `current`, in dB, None for no limit. `pictures` is the PNG file to write
    what was drawn to: the candidate's pictures in the first row, those of `current` below.
    """

    candidate: Path
    current: Path | None = None
    beside: dict[Kind, Path] = Field(default_factory=dict)
    tolerance_db: float | None = None
    pictures: Path | None = None
    steps: int = Field(4, ge=1)
    threads: int = Field(1, ge=1)
    provider: Literal["auto", "cpu", "cuda", "tensorrt"] = "cpu"
    time_s: int = Field(ge=1)
    memory_bytes: int = Field(ge=1)


class TrialReport(Record):
    """What a trial found; no reason means that the candidate passed.

    `compared` says what PSNR was measured on, None where there was nothing to compare. `figures` are numbers by name:
    `open_s`, `run_s` and `picture_s` are seconds, `peak_memory_mb` megabytes, `psnr_min` and `psnr_mean` decibels.
    """

    reasons: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    figures: dict[str, float] = Field(default_factory=dict)
    compared: str | None = None


def needs_more_memory(order: TrialOrder) -> str:
    """The reason of a trial that met its memory limit."""
    return f"memory: needs more than the limit of {order.memory_bytes} bytes"


def onnxruntime_version() -> str:
    """The version of the installed ONNX Runtime, which is not imported for that; "none" where there is none."""
    for package in _ONNX_RUNTIMES:
        try:
            return version(package)
        except PackageNotFoundError:
            continue
    return "none"
