import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from benchmarks.bars import judge_copies, judge_new_replicas
from benchmarks.coldstart import Copies, Rounds, measure_copies
from benchmarks.coldstart_report import conclude, show_coldstart
from benchmarks.errors import BenchmarkError
from benchmarks.machine import describe_machine
from benchmarks.opening import OpenedProcess, Opening
from benchmarks.scaling import NewReplica, read_phases
from benchmarks.whole_unet import SD15, Geometry, write_whole_unet
from components.folder import ComponentFolder, write_manifest

pytestmark = pytest.mark.slow  # processes that measure

ROOT = Path(__file__).parents[2]
SMALL = Geometry(channels=(32, 64), resnets=1, attending=1)
MB = 1_000_000


def opening(open_s: float, private_mb: int = 50) -> Opening:
    return Opening(open_s, open_s / 2, 0.5, 30 * MB, (private_mb - 5) * MB, private_mb * MB)


COPIES = Copies(
    component_bytes=3_400 * MB,
    copy_bytes=4_500 * MB,
    built_s=40.0,
    exported=(opening(10, 3400), opening(20, 3400), opening(11, 3400)),
    compiled=(opening(1), opening(2), opening(1)),
    exported_cold=opening(30),
    compiled_cold=opening(25),
    second=opening(1, 100),
    exported_run_s=(1.0, 2.0, 1.0),
    compiled_run_s=(1.02, 2.0, 1.1),
)
REPLICA = NewReplica(process_s=0.5, imports_s=2.0, start_s=0.25, open_s=0.125, running_s=0.25, first_answer_s=0.5)


@pytest.fixture(scope="module")
def component(tmp_path_factory: pytest.TempPathFactory) -> ComponentFolder:
    path = tmp_path_factory.mktemp("unet") / "denoiser"
    path.mkdir()
    folder = write_whole_unet(path, SMALL)
    contract = folder.manifest.contract.model_copy(update={"latent_size": (8, 8)})
    return write_manifest(path, folder.manifest.model_copy(update={"contract": contract}))


def test_a_component_and_its_copy_are_opened_and_run_in_turn(component: ComponentFolder) -> None:
    said: list[str] = []
    found = measure_copies(component.path, Rounds(openings=2, runs=3), 1, said.append)
    assert (len(found.exported), len(found.compiled)) == (2, 2)
    assert (len(found.exported_run_s), len(found.compiled_run_s)) == (3, 3)
    for one in (*found.exported, *found.compiled, found.exported_cold, found.compiled_cold, found.second):
        assert one.open_s > 0
        assert one.open_cpu_s > 0
        assert one.warm_up_s > 0
        assert 0 < one.private_before < one.private_opened <= one.private_warm
    assert found.copy_bytes > 0.9 * found.component_bytes
    assert said[-1] == "running"
    # nothing is written, as a component was given
    assert not any("writing" in each for each in said)


def test_a_component_that_does_not_open_is_one_error(component: ComponentFolder, tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match="has ended"):
        OpenedProcess(component.path, tmp_path, 1)


def test_copies_are_held_to_their_bars() -> None:
    bars = judge_copies(COPIES)
    assert [(bar.name, bar.value, bar.met) for bar in bars] == [
        ("session opened, compiled / exported", 0.1, True),
        ("private memory of a second replica", 100.0, True),
        ("run time, compiled / exported", 1.02, True),
    ]
    worse = dataclasses.replace(COPIES, compiled=(opening(3),) * 3, second=opening(1, 301), compiled_run_s=(2.0,) * 3)
    assert [bar.met for bar in judge_copies(worse)] == [False, False, False]


def test_a_new_replica_is_held_to_its_bar() -> None:
    [bar] = judge_new_replicas([REPLICA, dataclasses.replace(REPLICA, imports_s=60.0), REPLICA])
    assert (bar.value, bar.limit, bar.met) == (3.0, 8.0, True)


LOG = """\
INFO 2026-11-24 19:16:32,500 default_denoiser 09iz5bna -- Started initializing replica.
INFO 2026-11-24 19:16:32,600 default_denoiser 09iz5bna -- denoiser: opened emoji.denoiser/1 on cpu in 0.099 s, copy: hit
INFO 2026-11-24 19:16:33,000 default_denoiser 09iz5bna -- Finished initializing replica.
INFO 2026-11-24 19:16:34,250 default_denoiser 09iz5bna 12ab-34 -- CALL walk OK 35.1ms
INFO 2026-11-24 19:16:35,250 default_denoiser 09iz5bna 12ab-35 -- CALL walk OK 35.1ms
"""
# 19:16:30 of that day
ASKED = 1795547790.0


def test_a_replicas_start_is_read_from_its_log() -> None:
    found = read_phases(LOG, asked=ASKED, process_start=ASKED + 0.5, running=ASKED + 3.25)
    assert dataclasses.asdict(found) == pytest.approx(
        {"process_s": 0.5, "imports_s": 2.0, "start_s": 0.5, "open_s": 0.099, "running_s": 0.25, "first_answer_s": 1.0}
    )
    assert found.serves_s == pytest.approx(3.25)


def test_a_process_that_waited_counts_from_the_asking_and_unknown_phases_stay_unknown() -> None:
    log = "\n".join(line for line in LOG.splitlines() if "opened" not in line)
    found = read_phases(log, asked=ASKED, process_start=ASKED - 20, running=ASKED + 3.25)
    assert (found.process_s, found.imports_s, found.open_s) == (0.0, 2.5, None)
    with pytest.raises(BenchmarkError, match="no line with 'CALL '"):
        read_phases(log.split("CALL")[0], asked=ASKED, process_start=ASKED, running=ASKED + 3.25)


@pytest.mark.parametrize(("copies", "replicas"), [(COPIES, (REPLICA,)), (COPIES, None), (None, (REPLICA,))])
def test_a_report_shows_what_was_measured(copies: Copies | None, replicas: tuple[NewReplica, ...] | None) -> None:
    report = conclude("now", "command", describe_machine(), "a U-Net", copies, replicas)
    console = Console(width=200, record=True)
    show_coldstart(report, console)
    text = console.export_text()
    assert ("its copy 4.50 GB" in text) == (copies is not None)
    assert ("imports, nearly all of them Ray's" in text) == (replicas is not None)
    assert len(report.bars) == 3 * (copies is not None) + (replicas is not None)
    json.dumps(dataclasses.asdict(report), allow_nan=False)


def test_the_whole_network_is_as_large_as_sd15s() -> None:
    """Counted, not written: 860 million parameters, in 16 blocks that attend to the text."""
    assert SD15.time == 1280
    assert (SD15.resnets * 2 + 1) * SD15.attending + 1 == 16


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks", "coldstart", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def result(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def test_the_command_measures_a_folder_and_writes_what_it_found(
    component: ComponentFolder, toy_bundle: Path, tmp_path: Path
) -> None:
    out = tmp_path / "new" / "result.json"
    short = ("--part", "copies", "--rounds", "1", "--runs", "1", "--threads", "1", "--bundle", toy_bundle)
    ended = run(*short, "--folder", component.path, "--out", out)
    assert ended.returncode == 0, ended.stderr
    assert len(result(out)["bars"]) == 3
    assert result(out)["command"].startswith("python -m benchmarks coldstart --bundle toy --part copies --rounds 1")
    assert "session opened, compiled / exported" in ended.stdout


def test_a_bundle_that_is_not_there_is_told_before_anything_is_measured(tmp_path: Path) -> None:
    ended = run("--bundle", tmp_path / "nothing", "--out", tmp_path / "result.json")
    assert (ended.returncode, ended.stderr) == (
        1,
        "benchmarks: nothing: no such folder; a bundle holds text_encoder, denoiser, vae_decoder, vae_encoder\n",
    )


def test_new_replicas_are_asked_for_and_serve(toy_bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "result.json"
    ended = run("--bundle", toy_bundle, "--part", "replicas", "--replicas", "2", "--out", out)
    assert ended.returncode == 0, ended.stderr
    replicas = result(out)["new_replicas"]
    assert len(replicas) == 2
    for replica in replicas:
        assert replica["imports_s"] > 0
        assert replica["start_s"] > 0
        assert replica["process_s"] >= 0
        assert replica["running_s"] >= 0
