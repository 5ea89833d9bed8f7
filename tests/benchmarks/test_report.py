import io
import json
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from benchmarks.effort import Effort, LoadEffort
from benchmarks.machine import describe_machine
from benchmarks.measurement import Measurement
from benchmarks.mixed_figures import MixedLoad
from benchmarks.outside_figures import Outside
from benchmarks.parts import Part, Plan
from benchmarks.report import Found, Report, make_report, to_json
from benchmarks.tables import show
from benchmarks.task import Task


@pytest.fixture
def report(task: Task, measured: Measurement) -> Report:
    return _report(task, measured)


def _report(task: Task, measured: Measurement, **others: Any) -> Report:
    plan = Plan("toy", 3, tuple(Part), Effort(rounds=3, at_once=2), LoadEffort(shorts=40), sd15="sd15")
    found = Found(paths=measured, **others)
    return make_report(task, plan, machine=describe_machine(), found=found)


def _shown(report: Report) -> str:
    out = io.StringIO()
    show(report, Console(file=out, width=200))
    return out.getvalue()


def test_ratios_are_pairwise_and_bars_follow_from_them(report: Report) -> None:
    found = json.loads(to_json(report))
    ratios = found["comparisons"]
    assert ratios["in_process_over_bare"] == {"each": [1.1, 1.2, 1.1], "median": 1.1}
    assert ratios["served_over_bare"] == {"each": [5, 6, 5], "median": 5}
    assert ratios["served_over_in_process"]["each"] == [50 / 11, 5, 100 / 22]
    assert ratios["served_minus_bare_ms"] == {"each": [40, 50, 80], "median": 50}
    first, second, third = found["bars"]
    assert (first["met"], first["value"], first["limit"]) == (False, 1.1, 1.05)
    assert first["missed_by"] == pytest.approx(0.05)
    assert (second["met"], second["value"], second["unit"]) == (True, 50, "ms")
    assert (third["met"], third["value"], third["unit"]) == (True, 700, "MB")


def test_json_has_every_sample_the_settings_and_the_machine(report: Report, task: Task) -> None:
    found = json.loads(to_json(report))
    assert [sample["whole_ms"] for sample in found["measured"]["in_process"]] == [11, 12, 22]
    assert found["measured"]["bare"][0]["step_ms"] == [2, 4]
    assert found["medians"]["bare"]["whole_ms"] == 10
    assert found["medians"]["served"]["whole_ms"] == 60
    settings = found["settings"]
    assert (settings["bundle"], settings["rounds"], settings["at_once"], settings["shorts"]) == ("toy", 3, 2, 40)
    assert found["command"] == (
        "python -m benchmarks --bundle toy --steps 3 --part paths --part outside --part mixed "
        "--rounds 3 --at-once 2 --shorts 40 --sd15 sd15"
    )
    assert settings["request"]["steps"] == 3
    assert settings["components"] == {kind.value: folder.digest for kind, folder in task.folders.items()}
    machine = found["machine"]
    assert machine["libraries"].keys() == {"onnxruntime", "ray", "numpy"}
    assert all(version[0].isdigit() for version in machine["libraries"].values())
    assert machine["cores"] >= 1
    assert machine["cpu"]
    assert machine["memory_bytes"] > 2**30
    assert str(task.bundle.parent) not in to_json(report)


def test_the_terminal_says_what_is_met_and_by_how_much_the_rest_is_missed(task: Task, measured: Measurement) -> None:
    shown = _shown(_report(task, measured))
    assert "missed by 0.05" in shown
    for expected in ("TextToImage / bare", "1.100", "served / TextToImage", "denoiser", "ServeController", "20.5 s"):
        assert expected in shown


def test_the_denoising_figures_stand_beside_the_others(
    task: Task, measured: Measurement, outside: tuple[Outside, ...], mixed: MixedLoad
) -> None:
    report = _report(task, measured, outside=outside, mixed=mixed)
    found = json.loads(to_json(report))
    assert [bar["name"] for bar in found["bars"][3:]] == [
        "outside session.run, toy",
        "outside session.run, SD 1.5 at most",
        "p99 of short requests, step loop / first come",
        "throughput, first come / step loop",
        "capacity, first come / step loop",
        "starts with a free row that let a run pass",
    ]
    assert [bar["met"] for bar in found["bars"][3:]] == [False, True, True, True, False, False]
    assert [bar["value"] for bar in found["bars"][3:]] == pytest.approx([10, 1, 0.1, 0.8, 1.25, 25])
    assert found["outside"][0]["samples"][0]["run_ms"] == pytest.approx([10, 10])
    assert found["mixed"]["step_loop"]["short_ms"]["p99"] == 30
    assert found["mixed"]["first_come"]["rounds"][0]["short_ms"] == [100, 200, 300]
    assert found["mixed"]["starts"]["free_row"] == {"0": 3, "1": 1}
    shown = _shown(report)
    for expected in ("10.00%", "SD 1.5 at most", "first come", "0.100 times", "missed by 0.25", "free row"):
        assert expected in shown


def test_a_part_that_was_left_out_is_nowhere(task: Task, mixed: MixedLoad) -> None:
    plan = Plan("toy", 3, (Part.MIXED,), Effort(rounds=3, at_once=2), LoadEffort(shorts=40))
    report = make_report(task, plan, machine=describe_machine(), found=Found(mixed=mixed))
    found = json.loads(to_json(report))
    assert (found["measured"], found["comparisons"], found["outside"]) == (None, {}, None)
    assert len(found["bars"]) == 4
    shown = _shown(report)
    assert "mixed load" in shown
    assert "TextToImage" not in shown


def test_a_busy_machine_is_told(report: Report) -> None:
    busy = replace(report, machine=replace(report.machine, load_average=1.7))
    quiet = replace(report, machine=replace(report.machine, load_average=0.1))
    assert "busy" in _shown(busy)
    assert "busy" not in _shown(quiet)


def test_a_machine_of_other_cores_is_told_that_the_bars_are_not_its_own(report: Report) -> None:
    on_two = replace(report, machine=replace(report.machine, cores=2))
    on_eight = replace(report, machine=replace(report.machine, cores=8))
    assert "meant for 2 cores" in _shown(on_eight)
    assert "meant for 2 cores" not in _shown(on_two)
