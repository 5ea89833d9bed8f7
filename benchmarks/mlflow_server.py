"""A real MLflow server in a child process, which can be stopped half-way."""

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError

from benchmarks.errors import BenchmarkError
from benchmarks.server import HOST, end_of, free_port

_READY_WITHIN_S = 300.0
_LOOK_S = 0.2
# seven processes more would wait for MLflow's own jobs, of which there are none
_QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}


@dataclass(frozen=True, slots=True)
class MlflowServer:
    """Where it answers, and what it prints."""

    url: str
    process: subprocess.Popen[bytes]
    output: Path

    def stop(self) -> None:
        """End it and its workers on the spot, as a machine that loses power does."""
        if self.process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


@contextmanager
def mlflow_server(folder: Path, variables: Mapping[str, str] | None = None) -> Iterator[MlflowServer]:
    """Start one, and end it after the block.

    `variables` are of its environment, where it finds its database (MLFLOW_BACKEND_STORE_URI) and its files
    (MLFLOW_ARTIFACTS_DESTINATION); left out, these are an sqlite file and a folder in `folder`, which is made.

    Raises:
        BenchmarkError: it ended, or did not answer in five minutes.
    """
    folder.mkdir(parents=True)
    if variables is None:
        variables = {
            "MLFLOW_BACKEND_STORE_URI": f"sqlite:///{folder}/server.db",
            "MLFLOW_ARTIFACTS_DESTINATION": str(folder / "artifacts"),
        }
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1"]
    output = folder / "log"
    with output.open("w") as log:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, **_QUIET, **variables},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    server = MlflowServer(f"http://{HOST}:{port}", process, output)
    try:
        _wait(server)
        yield server
    finally:
        server.stop()


def _wait(server: MlflowServer) -> None:
    deadline = time.monotonic() + _READY_WITHIN_S
    while time.monotonic() < deadline:
        if server.process.poll() is not None:
            raise BenchmarkError(
                f"the MLflow server ended with status {server.process.returncode}: {end_of(server.output)}"
            )
        try:
            with urllib.request.urlopen(f"{server.url}/health", timeout=1):
                return
        except (URLError, OSError):
            time.sleep(_LOOK_S)
    raise BenchmarkError(f"the MLflow server did not answer within {_READY_WITHIN_S:g} s: {end_of(server.output)}")
