"""The command line; and once, the whole benchmark with a real server."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow  # processes that measure

ROOT = Path(__file__).parents[2]
SHORT = ("--rounds", "3", "--steps", "5", "--at-once", "2", "--shorts", "20")


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


def test_one_part_alone_is_measured_without_a_server(toy_bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "result.json"
    ended = run("--bundle", toy_bundle, "--part", "mixed", "--shorts", "8", "--out", out)
    assert ended.returncode == 0, ended.stderr
    result = json.loads(out.read_text())
    assert (result["measured"], result["outside"]) == (None, None)
    assert len(result["bars"]) == 4
    assert result["command"].startswith("python -m benchmarks --bundle toy --steps 25 --part mixed --rounds 10")


def test_a_bundle_of_sd15_that_is_not_there_is_told_before_anything_is_measured(
    toy_bundle: Path, tmp_path: Path
) -> None:
    ended = run("--bundle", toy_bundle, "--sd15", tmp_path / "sd15", "--out", tmp_path / "result.json")
    assert ended.returncode == 1
    assert re.fullmatch(r"benchmarks: sd15: no such folder.*\n", ended.stderr)


def test_a_server_that_does_not_start_is_told_in_its_own_words(toy_bundle: Path, tmp_path: Path) -> None:
    # a name that no registry takes, found out by the server alone
    shutil.copytree(toy_bundle, tmp_path / "No Name")
    ended = run("--bundle", tmp_path / "No Name", "--out", tmp_path / "result.json")
    assert ended.returncode == 1
    assert re.fullmatch(r"benchmarks: the server ended with status 1: .*bundle='No Name'.*\n", ended.stderr)


def test_the_whole_benchmark(toy_bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "result.json"
    ended = run("--bundle", toy_bundle, *SHORT, "--out", out)
    assert ended.returncode == 0, ended.stderr
    assert "Traceback" not in ended.stderr
    result = json.loads(out.read_text())
    check_times(result["measured"])
    check_comparisons(result)
    check_denoising(result)
    check_memory(result["measured"]["memory"])
    assert len(result["measured"]["load"]["whole_ms"]) == 6
    for name in ("outside session.run, toy", "SD 1.5 at most", "first come", "free row", "p99 of short"):
        assert name in ended.stdout
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
    assert len(result["bars"]) == 9
    assert all(bar["met"] == (bar["value"] <= bar["limit"]) for bar in result["bars"])


def check_denoising(result: dict[str, Any]) -> None:
    own, layers = ([one for one in result["outside"] if one["geometry"] == name] for name in ("toy", "SD 1.5 at most"))
    assert [one["walks"] for one in own] == [one["walks"] for one in layers] == [1, 4]
    for one in (*own, *layers):
        assert one["share"] > 0
        assert all(len(sample["run_ms"]) >= 5 for sample in one["samples"])
    mixed = result["mixed"]
    for system in ("step_loop", "first_come"):
        assert mixed[system]["short_ms"]["count"] == 20
        assert mixed[system]["capacity"] > mixed["offered_per_second"]
    # with seeds and moments the same, as many long ones came to the one as to the other
    lengths = [[len(each["long_ms"]) for each in mixed[system]["rounds"]] for system in ("step_loop", "first_come")]
    assert lengths[0] == lengths[1]


def check_memory(memory: dict[str, Any]) -> None:
    counted = sorted(process["name"] for process in memory["processes"] if process["counted"])
    stages = ["text_encoder", "denoiser", "vae_decoder", "vae_encoder"]
    assert counted == sorted(["ProxyActor", "graph", "ingress", "jobs", "latents", "rollout", *stages])
    apart = {process["name"] for process in memory["processes"] if not process["counted"]}
    assert {"ServeController", "raylet", "gcs_server", "ray_app"} <= apart
    assert all(process["pss"] > 0 and process["rss"] > 0 for process in memory["processes"])
    assert 0 < memory["counted_pss"] < memory["all_pss"]
    assert memory["counted_pss"] <= sum(process["pss"] for process in memory["processes"] if process["counted"])
    assert memory["samples"] >= 2
