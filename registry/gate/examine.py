"""The gate: whether a version may go live, found out before any request meets it, and kept as tags of the version."""

import logging
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from components.compatibility import compatible
from components.contract import Kind
from components.folder import ComponentFolder
from components.record import Record
from components.reference import kind_of
from components.trial import CHAIN, DRAWN, TrialOrder, TrialReport, onnxruntime_version
from registry.errors import RegistryAwayError, RegistryError
from registry.gate.child import run_trial
from registry.local.gc import hold
from registry.registry import Registry
from registry.tags import show_picture, tag_version
from registry.version import GATE_PREFIX, Version

_log = logging.getLogger(__name__)

PICTURES_FOLDER = "gate"
_VERDICT = f"{GATE_PREFIX}verdict"

# What a trial takes beside its weights: the libraries, and a VAE decoder's activations at 512x512.
_BASE_BYTES = 4 << 30

# float16 in the file is float32 in a session, which keeps a second, packed copy; the rest is room
_BYTES_A_BYTE = 6

# A U-Net of a gigabyte draws four pictures in half an hour on a niced core; a loop without an end ends in minutes.
_BASE_S = 300
_BYTES_A_SECOND = 2_000_000


class GateSettings(BaseModel):
    """How far a gate goes. It runs niced, in a process of its own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    time_s: int | None = Field(
        None, ge=1, description="the longest a trial may take; unset: 300 s and a second for every 2 MB of components"
    )
    memory_bytes: int | None = Field(
        None, ge=1 << 28, description="the most memory of a trial; unset: 4 GiB and six times the components' bytes"
    )
    threads: int = Field(1, ge=1, le=1024, description="threads of a trial, which share the machine with serving")
    provider: Literal["auto", "cpu", "cuda", "tensorrt"] = Field("cpu", description="where a trial runs")
    steps: int = Field(4, ge=1, le=1000, description="steps of each of the four prompts' pictures")
    tolerances: dict[Kind, float] = Field(
        # a preview decoder is compared on noise alone: sound decoders are 14..20 dB apart there, flat pictures 10..13
        default_factory=lambda: {Kind.VAE_DECODER: 20.0, Kind.VAE_ENCODER: 20.0, Kind.PREVIEW_DECODER: 15.0},
        description="the least PSNR in dB against the current version, where the alias states none",
    )


class Verdict(Record):
    """What the gate says of a version; reasons are there if and only if it is refused.

    `notes` say what could not be tried, `compared` what the PSNR in `figures` was measured on.
    """

    passed: bool
    reasons: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    figures: dict[str, float] = Field(default_factory=dict)
    compared: str | None = None
    onnxruntime: str


def examine(
    registry: Registry,
    candidate: Version,
    beside: Mapping[Kind, Version],
    current: Version | None,
    settings: GateSettings,
    *,
    tolerance: float | None,
) -> Verdict:
    """Try a version beside the components that it would serve with, and keep the verdict as its tags.

    `current` is the version that it would replace, `tolerance` the least PSNR against that in dB. It is compared with
    the contracts beside it first; then it is fetched and opened in a child process, which runs its golden cases and,
    for a text encoder or a denoiser, draws four prompts with the whole chain. This takes seconds to minutes.

    Raises:
        RegistryError: the registry does not answer, or a version beside the candidate cannot be fetched.
    """
    report = TrialReport(reasons=tuple(_mismatches(candidate, beside)))
    with tempfile.TemporaryDirectory(prefix="latentworks-gate-") as place:
        pictures = Path(place) / "pictures.png"
        if not report.reasons:
            report = try_version(registry, candidate, beside, current, settings, tolerance=tolerance, pictures=pictures)
        verdict = Verdict(passed=not report.reasons, onnxruntime=onnxruntime_version(), **dict(report))
        if pictures.is_file():
            show_picture(registry, candidate.ref, pictures, PICTURES_FOLDER, "what the gate saw")
    tags = _tags(candidate, current, verdict, tolerance)
    tag_version(registry, candidate.ref, GATE_PREFIX, tags, last=_VERDICT)
    _log.info(
        "%s %s", candidate.ref, "passed the gate" if verdict.passed else f"is refused: {_listed(verdict.reasons)}"
    )
    return verdict


def passed(version: Version, tolerance: float | None) -> bool:
    """Whether a version has passed the gate with this ONNX Runtime, and with at least this tolerance in dB."""
    tags = version.tags
    if tags.get(_VERDICT) != "passed" or tags.get(f"{GATE_PREFIX}sha256") != version.ref.sha256:
        return False
    if tags.get(f"{GATE_PREFIX}onnxruntime") != onnxruntime_version():
        return False
    if version.contract.kind in DRAWN and f"{GATE_PREFIX}picture_s" not in tags:
        return False  # it passed where there was no chain to draw with
    held_to = [_number(tags.get(f"{GATE_PREFIX}{name}")) for name in ("tolerance", "psnr_min")]
    return tolerance is None or any(found is not None and found >= tolerance for found in held_to)


def _mismatches(candidate: Version, beside: Mapping[Kind, Version]) -> Iterator[str]:
    if kind_of(candidate.ref.name) != candidate.contract.kind:
        yield f"kind: {candidate.ref.name} holds a {candidate.contract.kind}"
    for other in beside.values():
        for mismatch in compatible(candidate.contract, other.contract):
            yield f"does not fit {other.ref}: {mismatch}"


def try_version(
    registry: Registry,
    candidate: Version,
    beside: Mapping[Kind, Version],
    current: Version | None,
    settings: GateSettings,
    *,
    tolerance: float | None = None,
    pictures: Path | None = None,
) -> TrialReport:
    """Try a version in a child process, as the gate does; nothing is kept of it but the PNG file `pictures`.

    Raises:
        RegistryError: the registry does not answer, or a version beside the candidate cannot be fetched.
    """
    with ExitStack() as held:
        # before any is fetched, so that nothing is tidied away under the trial
        for version in (candidate, *beside.values(), *([] if current is None else [current])):
            if (lease := hold(version.ref, registry.settings)) is not None:
                held.callback(lease.release)
        return _try_held(registry, candidate, beside, current, settings, tolerance=tolerance, pictures=pictures)


def _try_held(
    registry: Registry,
    candidate: Version,
    beside: Mapping[Kind, Version],
    current: Version | None,
    settings: GateSettings,
    *,
    tolerance: float | None,
    pictures: Path | None,
) -> TrialReport:
    try:
        path = registry.fetch(candidate.ref)
    except RegistryAwayError:
        raise
    except RegistryError as error:
        if isinstance(error.__context__, OSError):
            raise  # it is our disk that fails
        return TrialReport(reasons=(str(error),))
    if ComponentFolder.open(path).manifest.contract != candidate.contract:
        return TrialReport(reasons=("its tags in the registry state another contract than its component.json",))
    needed = [kind for kind in CHAIN if kind != candidate.contract.kind] if candidate.contract.kind in CHAIN else []
    others = {kind: registry.fetch(beside[kind].ref) for kind in needed if kind in beside}
    before = None if current is None else registry.fetch(current.ref)
    size = sum(map(_size, [path, *others.values(), *([] if before is None else [before])]))
    return run_trial(
        TrialOrder(
            candidate=path,
            current=before,
            beside=others,
            tolerance_db=tolerance,
            pictures=pictures,
            steps=settings.steps,
            threads=settings.threads,
            provider=settings.provider,
            time_s=_BASE_S + size // _BYTES_A_SECOND if settings.time_s is None else settings.time_s,
            memory_bytes=_BASE_BYTES + _BYTES_A_BYTE * size if settings.memory_bytes is None else settings.memory_bytes,
        )
    )


def _size(folder: Path) -> int:
    return sum(record.size for record in ComponentFolder.open(folder).manifest.files.values())


def _tags(candidate: Version, current: Version | None, verdict: Verdict, tolerance: float | None) -> dict[str, str]:
    found = {
        "verdict": "passed" if verdict.passed else "refused",
        "reasons": _listed(verdict.reasons),
        "notes": _listed(verdict.notes),
        "compared": verdict.compared,
        "against": None if current is None else str(current.ref),
        # where nothing was compared, it was held to none
        "tolerance": None if tolerance is None or verdict.compared is None else f"{tolerance:g}",
        "onnxruntime": verdict.onnxruntime,
        # the tags stay where a digest is exchanged, and then say nothing
        "sha256": candidate.ref.sha256,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        **{name: f"{value:.6g}" for name, value in verdict.figures.items()},
    }
    return {f"{GATE_PREFIX}{name}": value for name, value in found.items() if value}


def _listed(sentences: Iterable[str]) -> str:
    return "; ".join(sentences)


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None
