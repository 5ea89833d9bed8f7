"""Ray nodes as processes of this machine, each of which can be killed as a machine that loses power dies."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from benchmarks.errors import BenchmarkError
from benchmarks.processes import family
from benchmarks.server import HOST, environment, free_port

_ROOT = Path(__file__).resolve().parents[2]
_RAY = Path(sys.executable).with_name("ray")
_UP_WITHIN_S = 180.0
_LOOK_S = 0.2
_STORE_BYTES = 200 * 2**20
_LINES_SHOWN = 5
_STARTS = 3
# what `ray start --block` says once its node is up
_STARTED = "This command will now block forever"
# a node is given up after ten seconds of silence; starting may take longer than Ray's own bound on a busy machine
_PATIENCE = {
    "RAY_raylet_start_wait_time_s": "120",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_failure_threshold": "10",
}


@dataclass(slots=True)
class Node:
    """One node: the processes of `ray start --block` and all below it."""

    name: str
    pool: str
    process: "subprocess.Popen[bytes]"
    output: Path

    def kill(self) -> None:
        """End all of its processes on the spot, each by its id."""
        for pid in family(self.process.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()


@dataclass(slots=True)
class LocalCluster:
    """A head, its workers, and where the head's dashboard takes Serve's config."""

    folder: Path
    redis_port: int
    gcs_port: int = field(default_factory=free_port)
    dashboard_port: int = field(default_factory=free_port)
    nodes: dict[str, Node] = field(default_factory=dict)

    @property
    def dashboard(self) -> str:
        """The address of Ray's dashboard."""
        return f"http://{HOST}:{self.dashboard_port}"

    @property
    def environment(self) -> dict[str, str]:
        """What every node's processes are started with."""
        return {
            **environment(os.environ, self.folder),
            **_PATIENCE,
            "PYTHONPATH": str(_ROOT),
            "RAY_ADDRESS": f"{HOST}:{self.gcs_port}",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_worker_niceness": "0",
            "RAY_REDIS_ADDRESS": f"{HOST}:{self.redis_port}",
        }

    def start_head(self) -> None:
        """Start the head, or start it again from what Redis knows, and wait until its dashboard answers."""
        options = {
            "--port": self.gcs_port,
            "--dashboard-host": HOST,
            "--dashboard-port": self.dashboard_port,
            "--ray-client-server-port": 0,
        }
        # by this file a head that starts again would take the workers' processes for one of its own
        (self.folder / "ray" / "ray_current_cluster").unlink(missing_ok=True)
        flags = [word for option, value in options.items() if value for word in (option, str(value))]
        self._start("head", "head", ["--head", *flags, "--include-dashboard", "true"], cpus=0.0)
        self._wait("head", lambda: httpx.get(f"{self.dashboard}/api/version", trust_env=False).is_success)

    def start_worker(self, name: str, pool: str, cpus: float) -> None:
        """Start a node whose label `pool` says what runs on it, and wait until it is up.

        Raises:
            BenchmarkError: it does not start.
        """
        # one after the other: several at once would each take longer than Ray waits for
        for attempt in range(_STARTS):
            self._start(name, pool, ["--address", f"{HOST}:{self.gcs_port}"], cpus=cpus)
            try:
                self._wait(name, lambda: _STARTED in self.nodes[name].output.read_text(errors="replace"))
                break
            except BenchmarkError:
                # on a busy machine Ray gives up a start by itself
                self.nodes[name].kill()
                if attempt == _STARTS - 1:
                    raise

    def kill(self) -> None:
        """End all nodes, the head last."""
        for node in reversed(self.nodes.values()):
            node.kill()

    def _start(self, name: str, pool: str, words: list[str], cpus: float) -> None:
        output = self.folder / f"{name}.txt"
        command = [
            *(str(_RAY), "start", "--block", "--node-ip-address", HOST, "--num-cpus", f"{cpus:g}"),
            *("--labels", f"pool={pool},node={name}", "--object-store-memory", str(_STORE_BYTES)),
            *("--temp-dir", str(self.folder / "ray"), *words),
        ]
        with output.open("w") as out:
            process = subprocess.Popen(command, cwd=_ROOT, env=self.environment, stdout=out, stderr=out)
        self.nodes[name] = Node(name, pool, process, output)

    def _wait(self, name: str, done: Callable[[], bool]) -> None:
        node, deadline = self.nodes[name], time.monotonic() + _UP_WITHIN_S
        while time.monotonic() < deadline:
            if node.process.poll() is not None:
                raise BenchmarkError(f"{name} ended with status {node.process.returncode}: {_end_of(node.output)}")
            try:
                if done():
                    return
            except httpx.TransportError:
                pass  # nobody listens yet
            time.sleep(_LOOK_S)
        raise BenchmarkError(f"{name} was not up in {_UP_WITHIN_S:g} seconds: {_end_of(node.output)}")


@contextmanager
def local_cluster(folder: Path) -> Iterator[LocalCluster]:
    """A cluster without a node yet, and a Redis for what its head knows; all processes end with the block.

    Raises:
        BenchmarkError: there is no Redis on this machine.
    """
    with ExitStack() as stack:
        port = free_port()
        redis = _redis(folder, port)
        stack.callback(redis.wait)
        stack.callback(redis.kill)
        cluster = LocalCluster(folder, port)
        stack.callback(cluster.kill)
        yield cluster


def _redis(folder: Path, port: int) -> "subprocess.Popen[bytes]":
    command = ["redis-server", "--bind", HOST, "--port", str(port), "--dir", str(folder), "--save", ""]
    try:
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    except FileNotFoundError:
        raise BenchmarkError("redis-server is not installed; Debian's package is called so") from None


def _end_of(output: Path) -> str:
    return " ".join(output.read_text(errors="replace").splitlines()[-_LINES_SHOWN:])


def node_labels(cluster: LocalCluster) -> dict[str, dict[str, str]]:
    """The labels of each node that is alive, by the node's id: `pool`, and `node`, which is what it is called here."""
    told = httpx.get(f"{cluster.dashboard}/api/v0/nodes", params={"detail": "true"}, trust_env=False).json()
    rows = told["data"]["result"]["result"]
    return {row["node_id"]: _labels(row) for row in rows if row["state"] == "ALIVE"}


def _labels(row: Mapping[str, Any]) -> dict[str, str]:
    labels = row.get("labels") or {}
    found: dict[str, str] = json.loads(labels) if isinstance(labels, str) else labels
    return found
