"""The graph on a cluster: its Serve config sent as KubeRay sends it, and what Serve says of its replicas."""

import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from benchmarks.cluster.nodes import LocalCluster
from benchmarks.cluster.variables import HEAD
from benchmarks.errors import BenchmarkError
from benchmarks.server import HOST
from services.config import read_args, serve_config

_ROOT = Path(__file__).resolve().parents[2]
_SERVE = Path(sys.executable).with_name("serve")
_WITHIN_S = 300.0
_LOOK_S = 0.3
_CPUS = 0.1
# in place of the overlay's minutes; Serve asks replicas each ten seconds, and takes a mean over thirty. The interval is
# deprecated, but the variable that shall take its place is read by nothing in Ray 2.60
_HASTE = {"upscale_delay_s": 1, "downscale_delay_s": 4, "metrics_interval_s": 1, "look_back_period_s": 3}
# in place of the overlay's five seconds, in which this machine would do whatever so few clients ask for
_WAIT_S = 1


@dataclass(frozen=True, slots=True)
class Replica:
    """One replica that runs: its deployment, its process and its node."""

    deployment: str
    pid: int
    node: str


def local_config(port: int) -> dict[str, Any]:
    """The Serve config of the overlay `gpu`, its pools and policies and all, for a machine without GPUs.

    Every replica takes a tenth of a core. What scales does so between bounds that are one number, so that only what a
    proof changes does change. `port` is that of the head's proxy.
    """
    config = serve_config(read_args((_ROOT / "k8s" / "overlays" / "gpu" / "graph.yaml").read_text(encoding="utf-8")))
    config["http_options"] = {"host": HOST, "port": port}
    for deployment in config["applications"][0]["deployments"]:
        deployment.pop("max_replicas_per_node", None)
        if (scaling := deployment.get("autoscaling_config")) is None:
            deployment["num_replicas"] = 1
        else:
            scaling |= {**_HASTE, "min_replicas": 1, "max_replicas": 1}
            if "policy" in scaling:
                scaling["policy"]["policy_kwargs"] = {"wait_s": _WAIT_S}
        options = deployment["ray_actor_options"]
        options |= {"num_cpus": _CPUS, "num_gpus": 0}
        for name in options.get("runtime_env", {}).get("env_vars", {}):
            if name.endswith("__PROVIDER"):
                options["runtime_env"]["env_vars"][name] = "cpu"
    return config


def _as_wanted(entry: Mapping[str, Any], found: Mapping[str, Any]) -> bool:
    states = [replica["state"] for replica in found["replicas"]]
    bounds = entry.get("autoscaling_config")
    fewest, most = (entry["num_replicas"],) * 2 if bounds is None else (bounds["min_replicas"], bounds["max_replicas"])
    return bool(found["status"] == "HEALTHY" and fewest <= len(states) <= most and states == len(states) * ["RUNNING"])


class Application:
    """The graph as one cluster serves it."""

    def __init__(self, cluster: LocalCluster) -> None:
        self._cluster = cluster
        self.config = local_config(cluster.http_port)

    def deployment(self, name: str) -> dict[str, Any]:
        """A deployment's entry in the config, to be changed."""
        entries: list[dict[str, Any]] = self.config["applications"][0]["deployments"]
        return next(entry for entry in entries if entry["name"] == name)

    def bound(self, name: str, fewest: int, most: int) -> None:
        """Let a deployment scale between so many replicas from the next deploying on."""
        self.deployment(name)["autoscaling_config"] |= {"min_replicas": fewest, "max_replicas": most}

    def deploy(self) -> None:
        """Send the config by `serve deploy`, and wait until Serve has made it so.

        Raises:
            BenchmarkError: Serve refuses it, or does not come to an end.
        """
        file = self._cluster.folder / "config.yaml"
        file.write_text(yaml.safe_dump(self.config, sort_keys=False), encoding="utf-8")
        command = [str(_SERVE), "deploy", str(file), "--address", self._cluster.dashboard]
        done = subprocess.run(command, env=self._cluster.environment(HEAD), capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise BenchmarkError(f"serve deploy: {done.stderr.strip()[-500:]}")
        # Serve takes a moment to see that something has changed
        time.sleep(1.0)
        self.wait(self._settled)

    def wait(self, done: Callable[[], bool]) -> None:
        """Wait until something holds.

        Raises:
            BenchmarkError: it does not in five minutes.
        """
        deadline = time.monotonic() + _WITHIN_S
        while time.monotonic() < deadline:
            if done():
                return
            time.sleep(_LOOK_S)
        raise BenchmarkError(f"not in {_WITHIN_S:g} seconds; Serve says: {self._told()}")

    def replicas(self) -> set[Replica]:
        """All replicas that run."""
        return {
            Replica(name, replica["pid"], replica["node_id"])
            for name, deployment in self._deployments().items()
            for replica in deployment["replicas"]
            if replica["state"] == "RUNNING"
        }

    def pids(self, *deployments: str) -> set[int]:
        """The processes of some deployments' replicas."""
        return {replica.pid for replica in self.replicas() if replica.deployment in deployments}

    def _settled(self) -> bool:
        found = self._deployments()
        entries = {entry["name"]: entry for entry in self.config["applications"][0]["deployments"]}
        return found.keys() == entries.keys() and all(_as_wanted(entry, found[name]) for name, entry in entries.items())

    def _deployments(self) -> dict[str, Any]:
        deployments: dict[str, Any] = self._application().get("deployments", {})
        return deployments

    def _told(self) -> str:
        application = self._application()
        each = {name: part["status"] for name, part in application.get("deployments", {}).items()}
        return f"{application.get('status')} {application.get('message', '')[-500:]} {each}"

    def _application(self) -> dict[str, Any]:
        try:
            answer = httpx.get(f"{self._cluster.dashboard}/api/serve/applications/", timeout=30, trust_env=False)
            application: dict[str, Any] = answer.json().get("applications", {}).get("default", {})
        except (httpx.TransportError, ValueError):
            # a head that has just started again
            return {}
        return application
