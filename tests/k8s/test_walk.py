"""docs/kubernetes.md, from its first command to its last, on a machine without Kubernetes."""

from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.k8s.page import ELSEWHERE, LINES, begins
from tests.k8s.walking import Walk
from tests.mlflow_server import MlflowServer
from tests.services.server import temporary_home


@pytest.mark.slow
def test_every_command_that_can_run_here_runs_in_its_order(tmp_path: Path) -> None:
    with temporary_home() as home, ExitStack() as ends:
        registry = MlflowServer(tmp_path / "mlflow")
        ends.callback(registry.stop)
        registry.wait()
        walk = Walk(tmp_path / "latentworks", home, registry, ends)
        for line in LINES:
            if begins(line, ELSEWHERE) is None:
                walk.follow(line)
        assert walk.served is not None
