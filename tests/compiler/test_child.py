import subprocess
import sys
import time
from pathlib import Path

import pytest

from compiler.child import build_within_s
from compiler.copies import CompiledCopies, Outcome
from compiler.errors import CompilerError
from compiler.key import copy_key
from compiler.settings import CompilerSettings
from components.folder import ComponentFolder
from runtime.session import Session
from tests.compiler.conftest import CPU, names


def _gone(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    # a zombie is gone, whether or not somebody asks for its status
    return not stat.exists() or stat.read_text().rsplit(")", 1)[1].split()[0] == "Z"


@pytest.mark.slow
def test_a_build_that_hangs_is_ended_with_all_that_it_started_and_not_tried_again_at_once(
    copies: CompiledCopies, component: ComponentFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hanging = tmp_path / "hanging"
    hanging.write_text(f"#!/bin/sh\nsleep 30 &\necho $$ $! >{tmp_path}/pids\nwait\n")
    hanging.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(hanging))
    monkeypatch.setattr("compiler.child._LEAST_S", 1.0)
    monkeypatch.setattr("compiler.child._S_PER_GB", 0.0)
    with pytest.raises(CompilerError, match="the build hung: it was ended after 1 s"):
        copies.build(component, CPU)
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    assert len(pids) == 2
    until = time.monotonic() + 10
    while not all(map(_gone, pids)) and time.monotonic() < until:
        time.sleep(0.05)
    assert all(map(_gone, pids))
    again = copies.open(Session.open, component, CPU, wait=True)
    assert (again.outcome, again.reason) == (Outcome.FAILED, "the build hung: it was ended after 1 s")


def test_a_build_may_take_minutes_and_more_for_larger_components(component: ComponentFolder) -> None:
    small = build_within_s(component)
    weights = component.manifest.files["model.onnx"].model_copy(update={"size": 4_000_000_000})
    manifest = component.manifest.model_copy(update={"files": {"model.onnx": weights}})
    assert 300 < small < 330
    assert build_within_s(ComponentFolder(component.path, manifest)) > 1200


def test_a_child_that_dies_leaves_nothing(
    copies: CompiledCopies, settings: CompilerSettings, component: ComponentFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(CompilerError, match="ended with status 1"):
        copies.build(component, CPU)
    assert names(settings.folder) == [f"{copy_key(component)}.failed"]


def test_a_build_ends_with_the_process_that_asked_for_it(component: ComponentFolder, tmp_path: Path) -> None:
    child = f"""
import subprocess, sys
command = [sys.executable, "-c", "import compiler.build as b, time; b.build = lambda *_: time.sleep(600); b.main()",
           {str(component.path)!r}, {str(tmp_path)!r}, "{{}}"]
process = subprocess.Popen(command, stdin=subprocess.PIPE)
print(process.pid, flush=True)
sys.stdin.readline()
"""
    with subprocess.Popen(
        [sys.executable, "-c", child], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
    while Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1][:3]:
        time.sleep(0.05)
