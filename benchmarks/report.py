"""What is written: every sample, what follows from them, and on what machine."""

import json
import operator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from benchmarks.bars import Bar, judge_all
from benchmarks.machine import Machine
from benchmarks.measurement import Effort, Measurement
from benchmarks.ratios import Comparison, compare, medians
from benchmarks.task import Task


@dataclass(frozen=True, slots=True)
class Report:
    """All of a run. Medians are by path and field; comparisons are made within each round."""

    made: str
    machine: Machine
    settings: dict[str, Any]
    measured: Measurement
    medians: dict[str, dict[str, float]]
    comparisons: dict[str, Comparison]
    bars: tuple[Bar, ...]


def make_report(task: Task, effort: Effort, *, machine: Machine, measured: Measurement) -> Report:
    """Draw the conclusions of a measurement."""
    comparisons = _comparisons(measured)
    return Report(
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=machine,
        settings=_settings(task, effort),
        measured=measured,
        medians={
            "bare": medians(measured.bare),
            "in_process": medians(measured.in_process),
            "served": medians(measured.served),
            "load": medians([measured.load]),
        },
        comparisons=comparisons,
        bars=judge_all(
            comparisons["in_process_over_bare"], comparisons["served_minus_bare_ms"], measured.memory.counted_pss
        ),
    )


def to_json(report: Report) -> str:
    """Write a report as JSON, with a name for every figure."""
    return json.dumps(asdict(report), indent=2, allow_nan=False) + "\n"


def _comparisons(measured: Measurement) -> dict[str, Comparison]:
    bare, in_process, served = (
        [sample.whole_ms for sample in samples] for samples in (measured.bare, measured.in_process, measured.served)
    )
    return {
        "in_process_over_bare": compare(in_process, bare, operator.truediv),
        "served_over_bare": compare(served, bare, operator.truediv),
        "served_over_in_process": compare(served, in_process, operator.truediv),
        "served_minus_bare_ms": compare(served, bare, operator.sub),
    }


def _settings(task: Task, effort: Effort) -> dict[str, Any]:
    return {
        "bundle": task.bundle.name,
        "components": {kind.value: folder.digest for kind, folder in task.folders.items()},
        "sessions": {kind.value: settings.model_dump() for kind, settings in task.sessions.items()},
        "request": asdict(task.request),
        **asdict(effort),
    }
