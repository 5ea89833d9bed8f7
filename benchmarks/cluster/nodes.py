"""Ray nodes as processes of this machine, each of which can be killed as a machine that loses power dies."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from benchmarks.cluster.stores import Stores
from benchmarks.cluster.variables import HEAD
from benchmarks.errors import BenchmarkError
from benchmarks.processes import family
from benchmarks.server import HOST, end_of, environment, free_port

_ROOT = Path(__file__).resolve().parents[2]
_RAY = Path(sys.executable).with_name("ray")
_UP_WITHIN_S = 180.0
_LOOK_S = 0.2
_STORE_BYTES = 200 * 2**20
_STARTS = 3
# what `ray start --block` says once its node is up
_STARTED = "This command will now block forever"
# Serve's handles tell of waiting calls each ten seconds, which is long for whoever watches it scale
_HASTE = {"RAY_SERVE_HANDLE_AUTOSCALING_METRIC_PUSH_INTERVAL_S": "1"}
# all proxies but the head's listen where this says: on one machine no two can have one port
_PORT = "RAY_SERVE_WORKER_PROXY_HTTP_PORT"
# a node is given up after ten seconds of silence; starting may take longer than Ray's own bound on a busy machine
_PATIENCE = {
    "RAY_raylet_start_wait_time_s": "120",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_failure_threshold": "10",
}


@dataclass(slots=True)
class Node:
    """One node: the processes of `ray start --block` and all below it, and the port of its proxy."""

    name: str
    pool: str
    port: int
    process: "subprocess.Popen[bytes]"
    output: Path

    def kill(self) -> None:
        """End all of its processes on the spot, each by its id, which is another's once it has ended."""
        if self.process.returncode is not None:
            return
        for pid in family(self.process.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()

    @property
    def url(self) -> str:
        """Where its proxy listens, once it has one."""
        return f"http://{HOST}:{self.port}"


@dataclass(slots=True)
class LocalCluster:
    """A head, its workers, and where the head's dashboard takes Serve's config."""

    stores: Stores
    http_port: int = field(default_factory=free_port)
    gcs_port: int = field(default_factory=free_port)
    dashboard_port: int = field(default_factory=free_port)
    nodes: dict[str, Node] = field(default_factory=dict)

    @property
    def dashboard(self) -> str:
        """The address of Ray's dashboard."""
        return f"http://{HOST}:{self.dashboard_port}"

    @property
    def folder(self) -> Path:
        """Where everything is, beside what the stores hold."""
        return self.stores.folder

    def environment(self, pool: str) -> dict[str, str]:
        """What the processes of a pool's nodes are started with."""
        return {
            **environment(_without_buckets(os.environ), self.folder),
            **self.stores.variables(pool),
            **_PATIENCE,
            **_HASTE,
            "PYTHONPATH": str(_ROOT),
            "RAY_ADDRESS": f"{HOST}:{self.gcs_port}",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_worker_niceness": "0",
            "RAY_REDIS_ADDRESS": f"{HOST}:{self.stores.redis_port}",
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
        self._start(HEAD, HEAD, ["--head", *flags, "--include-dashboard", "true"], cpus=0.0)
        self._wait(HEAD, lambda: httpx.get(f"{self.dashboard}/api/version", trust_env=False).is_success)

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
        port = self.http_port if name == HEAD else free_port()
        known = {**self.environment(pool), _PORT: str(port)}
        with output.open("w") as out:
            process = subprocess.Popen(command, cwd=_ROOT, env=known, stdout=out, stderr=out)
        self.nodes[name] = Node(name, pool, port, process, output)

    def _wait(self, name: str, done: Callable[[], bool]) -> None:
        node, deadline = self.nodes[name], time.monotonic() + _UP_WITHIN_S
        while time.monotonic() < deadline:
            if node.process.poll() is not None:
                raise BenchmarkError(f"{name} ended with status {node.process.returncode}: {end_of(node.output)}")
            try:
                if done():
                    return
            except httpx.TransportError:
                pass  # nobody listens yet
            time.sleep(_LOOK_S)
        raise BenchmarkError(f"{name} was not up in {_UP_WITHIN_S:g} seconds: {end_of(node.output)}")


def _without_buckets(given: Mapping[str, str]) -> dict[str, str]:
    """An environment without whoever's keys of buckets."""
    return {name: value for name, value in given.items() if not name.startswith("AWS_")}


@contextmanager
def local_cluster(stores: Stores) -> Iterator[LocalCluster]:
    """A cluster without a node yet; all processes of its nodes end with the block."""
    cluster = LocalCluster(stores)
    try:
        yield cluster
    finally:
        cluster.kill()


def node_labels(cluster: LocalCluster) -> dict[str, dict[str, str]]:
    """The labels of each node that is alive, by the node's id: `pool`, and `node`, which is what it is called here."""
    told = httpx.get(f"{cluster.dashboard}/api/v0/nodes", params={"detail": "true"}, trust_env=False).json()
    rows = told["data"]["result"]["result"]
    return {row["node_id"]: _labels(row) for row in rows if row["state"] == "ALIVE"}


def _labels(row: Mapping[str, Any]) -> dict[str, str]:
    labels = row.get("labels") or {}
    found: dict[str, str] = json.loads(labels) if isinstance(labels, str) else labels
    return found
