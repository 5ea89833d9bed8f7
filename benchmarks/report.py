"""What is written: every sample, what follows from them, and on what machine."""

import json
import operator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from benchmarks.bars import Bar, judge_mixed, judge_outside, judge_paths
from benchmarks.machine import Machine
from benchmarks.measurement import Measurement
from benchmarks.mixed_figures import MixedLoad
from benchmarks.outside_figures import Outside
from benchmarks.parts import Plan
from benchmarks.ratios import Comparison, compare, medians
from benchmarks.task import Task


@dataclass(frozen=True, slots=True)
class Found:
    """What each part has measured; None of a part that was left out."""

    paths: Measurement | None = None
    outside: tuple[Outside, ...] | None = None
    mixed: MixedLoad | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """All of a run. Medians are by path and field; comparisons are made within each round."""

    made: str
    command: str
    machine: Machine
    settings: dict[str, Any]
    measured: Measurement | None
    medians: dict[str, dict[str, float]]
    comparisons: dict[str, Comparison]
    outside: tuple[Outside, ...] | None
    mixed: MixedLoad | None
    bars: tuple[Bar, ...]


def make_report(task: Task, plan: Plan, *, machine: Machine, found: Found) -> Report:
    """Draw the conclusions of what was measured."""
    paths = found.paths
    comparisons = {} if paths is None else _comparisons(paths)
    return Report(
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        command=plan.command(),
        machine=machine,
        settings=_settings(task, plan),
        measured=paths,
        medians={} if paths is None else _medians(paths),
        comparisons=comparisons,
        outside=found.outside,
        mixed=found.mixed,
        bars=(
            *(() if paths is None else _judge_paths(paths, comparisons)),
            *(() if found.outside is None else judge_outside(found.outside)),
            *(() if found.mixed is None else judge_mixed(found.mixed)),
        ),
    )


def to_json(report: Report) -> str:
    """Write a report as JSON, with a name for every figure."""
    return json.dumps(asdict(report), indent=2, allow_nan=False) + "\n"


def _judge_paths(measured: Measurement, comparisons: dict[str, Comparison]) -> tuple[Bar, ...]:
    return judge_paths(
        comparisons["in_process_over_bare"], comparisons["served_minus_bare_ms"], measured.memory.counted_pss
    )


def _medians(measured: Measurement) -> dict[str, dict[str, float]]:
    return {
        "bare": medians(measured.bare),
        "in_process": medians(measured.in_process),
        "served": medians(measured.served),
        "load": medians([measured.load]),
    }


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


def _settings(task: Task, plan: Plan) -> dict[str, Any]:
    return {
        "bundle": task.bundle.name,
        "components": {kind.value: folder.digest for kind, folder in task.folders.items()},
        "sessions": {kind.value: settings.model_dump() for kind, settings in task.sessions.items()},
        "request": asdict(task.request),
        "parts": [part.value for part in plan.parts],
        **asdict(plan.effort),
        **asdict(plan.load),
    }
