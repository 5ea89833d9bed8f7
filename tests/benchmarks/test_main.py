"""The command line; and once, the whole benchmark with a real server."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_a_bundle_that_is_not_there_is_said_in_one_sentence(tmp_path: Path) -> None:
    out = tmp_path / "result.json"
    ended = run("--bundle", tmp_path / "nothing", "--out", out)
    assert ended.returncode == 1
    assert re.fullmatch(r"benchmarks: nothing: no such folder.*\n", ended.stderr)
    assert not out.exists()


def test_a_result_that_cannot_be_written_is_told_before_anything_is_measured(toy_bundle: Path, tmp_path: Path) -> None:
    ended = run("--bundle", toy_bundle, "--out", tmp_path)
    assert ended.returncode == 2
    assert "--out" in ended.stderr
    (tmp_path / "file").touch()
    ended = run("--bundle", toy_bundle, "--out", tmp_path / "file" / "result.json")
    assert ended.returncode == 1
    assert re.fullmatch(r"benchmarks: .*result\.json: .+\n", ended.stderr)


@pytest.mark.slow
def test_a_server_that_does_not_start_is_told_in_its_own_words(toy_bundle: Path, tmp_path: Path) -> None:
    # a name that no registry takes, found out by the server alone
    shutil.copytree(toy_bundle, tmp_path / "No Name")
    ended = run("--bundle", tmp_path / "No Name", "--out", tmp_path / "result.json")
    assert ended.returncode == 1
    assert re.fullmatch(r"benchmarks: the server ended with status 1: .*bundle='No Name'.*\n", ended.stderr)


@pytest.mark.slow
def test_the_whole_benchmark(toy_bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "result.json"
    ended = run("--bundle", toy_bundle, "--rounds", "3", "--steps", "5", "--at-once", "2", "--out", out)
    assert ended.returncode == 0, ended.stderr
    assert "Traceback" not in ended.stderr
    result = json.loads(out.read_text())
    check_times(result["measured"])
    check_comparisons(result)
    check_memory(result["measured"]["memory"])
    assert len(result["measured"]["load"]["whole_ms"]) == 6
    for name in ("TextToImage / bare", "served / bare", "served / TextToImage", "vae_decoder", "ProxyActor"):
        assert name in ended.stdout


def check_times(measured: dict[str, Any]) -> None:
    assert 0 < measured["ready_s"] < measured["first_picture_s"]
    for path in ("bare", "in_process"):
        assert len(measured[path]) == 3
        for sample in measured[path]:
            assert len(sample["step_ms"]) == 5
            assert 0 < sum(sample["step_ms"]) <= sample["denoiser_ms"]
            check_stages(sample)
    assert len(measured["served"]) == 3
    for sample in measured["served"]:
        check_stages(sample)
        # the log rounds each to a tenth of a millisecond
        stages = sample["text_encoder_ms"] + sample["denoiser_ms"] + sample["vae_decoder_ms"]
        assert stages <= sample["graph_ms"] + 0.2
        assert sample["graph_ms"] <= sample["whole_ms"] + 0.1


def check_stages(sample: dict[str, Any]) -> None:
    stages = [sample["text_encoder_ms"], sample["denoiser_ms"], sample["vae_decoder_ms"]]
    assert min(stages) > 0
    assert sum(stages) <= sample["whole_ms"]


def check_comparisons(result: dict[str, Any]) -> None:
    whole = {
        path: [sample["whole_ms"] for sample in result["measured"][path]] for path in ("bare", "in_process", "served")
    }
    for measured, base in (("in_process", "bare"), ("served", "bare"), ("served", "in_process")):
        each = result["comparisons"][f"{measured}_over_{base}"]["each"]
        assert each == [value / other for value, other in zip(whole[measured], whole[base], strict=True)]
    # networks this small take less time than HTTP
    assert result["comparisons"]["served_over_bare"]["median"] > 1
    assert len(result["bars"]) == 3
    assert all(bar["met"] == (bar["value"] <= bar["limit"]) for bar in result["bars"])


def check_memory(memory: dict[str, Any]) -> None:
    counted = sorted(process["name"] for process in memory["processes"] if process["counted"])
    stages = ["text_encoder", "denoiser", "vae_decoder", "vae_encoder"]
    assert counted == sorted(["ProxyActor", "catalog", "graph", "ingress", *stages])
    apart = {process["name"] for process in memory["processes"] if not process["counted"]}
    assert {"ServeController", "raylet", "gcs_server", "ray_app"} <= apart
    assert all(process["pss"] > 0 and process["rss"] > 0 for process in memory["processes"])
    assert 0 < memory["counted_pss"] < memory["all_pss"]
    assert memory["counted_pss"] <= sum(process["pss"] for process in memory["processes"] if process["counted"])
    assert memory["samples"] >= 2
