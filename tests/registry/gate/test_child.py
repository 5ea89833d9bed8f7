import os
import time
from pathlib import Path

import pytest

from components.trial import TrialOrder
from registry.gate.child import run_trial

pytestmark = pytest.mark.slow  # children that open components

ORDER = TrialOrder(candidate=Path("nowhere"), time_s=60, memory_bytes=1 << 30)


def _script(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr("registry.gate.child._COMMAND", ("sh", "-c", text))


def _is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # one that ended and that nobody has waited for yet has a pid still
    return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()


def test_all_that_a_trial_started_ends_with_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _script(monkeypatch, f"sleep 1000 & echo $! > {tmp_path}/pid; wait")
    report = run_trial(ORDER.model_copy(update={"time_s": 2}))
    assert report.reasons == ("time: did not finish within the limit of 2 s",)
    pid = int((tmp_path / "pid").read_text())
    while _is_there(pid):
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("kill -KILL $$", "memory: the system ended the trial, as it does where memory runs out"),
        ("kill -ABRT $$", "the candidate crashed ONNX Runtime (signal SIGABRT)"),
        ("echo MemoryError >&2; exit 1", "memory: needs more than the limit of 1073741824 bytes"),
        ("exit 3", "the trial itself failed (status 3); the log of this process says more"),
        ("echo no report", "the trial itself failed (status 0); the log of this process says more"),
        ('echo \'{"reasons": [], "passed": true}\'', "the trial itself failed (status 0); the log"),
    ],
)
def test_every_end_is_a_sentence(monkeypatch: pytest.MonkeyPatch, script: str, words: str) -> None:
    _script(monkeypatch, f"cat > /dev/null; {script}")
    [reason] = run_trial(ORDER).reasons
    assert reason.startswith(words)


def test_a_child_that_reads_no_order_is_no_error_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    _script(monkeypatch, "exec 0<&-; kill -KILL $$")
    assert run_trial(ORDER).reasons[0].startswith("memory: the system ended the trial")


def test_no_credentials_are_beside_a_candidate(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "hunter2")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    _script(monkeypatch, f"env > {tmp_path}/environment")
    run_trial(ORDER)
    seen = (tmp_path / "environment").read_text()
    assert "PYTHONPATH=" in seen
    assert "hunter2" not in seen


def test_a_trial_that_cannot_even_start_for_lack_of_memory_says_so() -> None:
    for memory_bytes in (1 << 20, 20 << 20, 60 << 20):
        [reason] = run_trial(ORDER.model_copy(update={"memory_bytes": memory_bytes})).reasons
        assert reason == f"memory: needs more than the limit of {memory_bytes} bytes"


def test_what_is_no_component_is_a_reason(tmp_path: Path) -> None:
    report = run_trial(ORDER.model_copy(update={"candidate": tmp_path / "nowhere"}))
    assert report.reasons == ("no component.json; is this a component folder?",)


def test_what_a_trial_leaves_running_ends_with_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    report = '{"notes": ["done"]}'
    _script(monkeypatch, f"sleep 1000 > /dev/null 2>&1 & echo $! > {tmp_path}/pid; echo '{report}'")
    assert run_trial(ORDER).notes == ("done",)
    pid = int((tmp_path / "pid").read_text())
    while _is_there(pid):
        time.sleep(0.01)
