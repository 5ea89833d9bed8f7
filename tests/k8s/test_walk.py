"""docs/kubernetes.md, from its first command to its last, on a machine without Kubernetes."""

import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from benchmarks.mlflow_server import mlflow_server
from tests.k8s.page import ELSEWHERE, LINES, SPOKEN_OF, begins
from tests.k8s.rendering import ROOT
from tests.k8s.walking import Walk
from tests.services.server import temporary_home

pytestmark = pytest.mark.slow


def test_every_command_that_can_run_here_runs_in_its_order(tmp_path: Path) -> None:
    with temporary_home() as home, ExitStack() as ends:
        registry = ends.enter_context(mlflow_server(tmp_path / "mlflow"))
        walk = Walk(tmp_path / "latentworks", home, registry, ends)
        for line in LINES:
            if begins(line, ELSEWHERE) is None:
                walk.follow(line)
        assert walk.served is not None


@pytest.mark.parametrize("line", [line for line in SPOKEN_OF if line.startswith("python ")])
def test_what_it_only_speaks_of_can_be_asked_what_it_does(line: str) -> None:
    _python, _m, module, *rest = line.split()
    command = [sys.executable, "-m", module, *rest[:1], "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
