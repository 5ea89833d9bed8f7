"""The commands, on times from a file."""

import json
from functools import partial
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks.__main__ import app
from benchmarks.plan import commands, paper
from benchmarks.plan.paper import BurstPlan
from tests.benchmarks.plan.reckoning import timed

MIX = ("--mix", "4x64x64")


@pytest.fixture
def times(tmp_path: Path) -> Path:
    file = tmp_path / "times.json"
    known = timed(rows=8, run_s={2: 0.05, 8: 0.1}, vae_decoder_s=0.2, ingress_s=0.04, graph_s=0.04)
    file.write_text(known.model_dump_json(), encoding="utf-8")
    return file


def run(*words: str | Path) -> tuple[int, str]:
    done = CliRunner().invoke(app, [*map(str, words)])
    return done.exit_code, done.output


def test_advice_is_shown_and_written(times: Path, tmp_path: Path) -> None:
    out = tmp_path / "plan.json"
    status, said = run(
        "plan", "--rate", "2/s", "--p95", "2s", *MIX, "--times", times, "--price", "denoiser=3", "--out", out
    )
    assert status == 0, said
    advice = json.loads(out.read_text())["advice"]
    replicas = advice["held"]["replicas"]
    assert set(replicas) == {"ingress", "graph", "text_encoder", "denoiser", "vae_decoder"}
    assert advice["hourly"] == sum(replicas.values()) + 2 * replicas["denoiser"]
    for name in replicas:
        assert name in said
    assert f"{advice['hourly']:g} an hour" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--rate", "5", "--p95", "2s"), "--rate 5: "),
        (("--rate", "5/s", "--p95", "2"), "--p95 2: "),
        (("--rate", "5/s", "--p95", "2s", "--mix", "many"), "--mix many: "),
        (("--rate", "5/s", "--p95", "2s", "--mix", "4x128x64"), "--mix: 128x64 was not measured"),
        (("--rate", "5/s", "--p95", "2s", "--price", "gpu=2"), "--price gpu=2: must be DEPLOYMENT=COST, of ingress"),
        (("--rate", "5/s", "--p95", "2s", "--price", "denoiser=-1"), "--price denoiser=-1: "),
        (("--rate", "5/s", "--p95", "2s", "--price", "denoiser=nan"), "--price denoiser=nan: "),
        (("--rate", "5/s", "--p95", "2s", "--times", "nothing.json"), "--times nothing.json: No such file"),
    ],
)
def test_what_cannot_be_planned_is_one_sentence(words: tuple[str, ...], said: str, times: Path, tmp_path: Path) -> None:
    given = words if "--mix" in words else (*words, *MIX)
    given = given if "--times" in words else (*given, "--times", str(times))
    status, output = run("plan", *given, "--out", tmp_path / "plan.json")
    assert status == 1
    assert f"benchmarks: {said}" in output
    assert not (tmp_path / "plan.json").exists()


def test_a_large_system_is_drawn(times: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paper, "LOADS", (0.3, 0.9))
    monkeypatch.setattr(commands, "BurstPlan", partial(BurstPlan, 5.0, 10.0, 30.0))
    out = tmp_path / "figures.json"
    status, said = run("plan-figures", times, tmp_path, *MIX, "--denoisers", "3", "--in-burst", "3", "--out", out)
    assert status == 0, said
    told = json.loads(out.read_text())
    low, high = told["loads"]
    assert low["p99_s"] <= high["p99_s"]
    assert low["utilisation"]["denoiser"] < high["utilisation"]["denoiser"]
    paid = {way["name"]: way["paid"] for way in told["bursts"]}
    assert paid["never scaled"] == pytest.approx(1)
    assert paid["always as many as the burst needs"] == pytest.approx(3)
    for name in ("plan-load.png", "plan-burst.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
