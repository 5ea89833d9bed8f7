"""A server started as `make run` does, for tests to ask over real sockets."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).parents[2]
GENERATIONS = "/v1/images/generations"


@dataclass
class Served:
    """A running server: its process, where it answers, what it prints, where Ray logs."""

    process: subprocess.Popen[str]
    url: str
    output: Path
    logs: Path

    def generate(self, accept: str = "*/*", **body: Any) -> httpx.Response:
        return httpx.post(self.url + GENERATIONS, json=body, headers={"accept": accept}, timeout=120)

    def metric(self, name: str, *labels: str) -> float:
        """The sum of a metric's samples that carry all labels, over every process of the node."""
        page = httpx.get(self.url + "/metrics", timeout=30).text
        samples = (line for line in page.splitlines() if line.startswith(f"ray_{name}{{"))
        return sum(float(line.rsplit(" ", 1)[1]) for line in samples if all(label in line for label in labels))

    def metric_reaches(self, least: float, name: str, *labels: str) -> bool:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if self.metric(name, *labels) >= least:
                return True
            time.sleep(0.5)
        return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def environment(home: Path) -> dict[str, str]:
    """Nothing of the developer's own registry, Ray or MLflow; figures come every second instead of every ten."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "MLFLOW_", "LATENTWORKS_"))
    }
    # Ray's sockets have the longest path that the system takes: their folder must be near the root
    ours = {"HOME": str(home), "RAY_TMPDIR": str(home), "RAY_metrics_report_interval_ms": "1000"}
    return {**kept, **ours, "LATENTWORKS_HOME": str(home / "registry")}


def command(*arguments: str) -> list[str]:
    return [sys.executable, "ray_app.py", *arguments]


@contextmanager
def temporary_home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="lw", dir="/tmp", ignore_cleanup_errors=True) as path:
        yield Path(path)


@contextmanager
def serving(home: Path, *arguments: str, variables: Mapping[str, str] | None = None) -> Iterator[Served]:
    """Start the server, with `variables` besides its own, wait until it is ready, and end it after the block."""
    port = free_port()
    output = home / "output.txt"
    with output.open("w") as out:
        process = subprocess.Popen(
            command(*arguments, "--port", str(port)),
            cwd=ROOT,
            env={**environment(home), **(variables or {})},
            stdout=out,
            stderr=out,
            text=True,
        )
    server = Served(process, f"http://127.0.0.1:{port}", output, home / "ray")
    try:
        wait_until_ready(server)
        yield server
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=180)


def wait_until_ready(server: Served) -> None:
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        assert server.process.poll() is None, server.output.read_text()
        try:
            if httpx.get(server.url + "/readyz", timeout=10).status_code == 200:
                return
        except httpx.TransportError:
            pass  # nobody listens yet
        time.sleep(0.5)
    raise AssertionError(server.output.read_text())
