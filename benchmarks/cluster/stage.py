"""A cluster with the graph on it, and what every proof asks of the two."""

from dataclasses import dataclass, field
from typing import Any

import httpx

from benchmarks.cluster.application import Application
from benchmarks.cluster.door import GENERATIONS, Door
from benchmarks.cluster.nodes import LocalCluster
from benchmarks.cluster.stores import JOBS, Stores
from benchmarks.cluster.variables import HEAD

_WORKER_CPUS = 2.0
# of each pool; the denoisers' has a node more than replicas, as a new one starts before an old one stops
WORKERS = {
    "front": "front",
    "encoders": "encoders",
    "denoisers-1": "denoisers",
    "denoisers-2": "denoisers",
    "denoisers-3": "denoisers",
    "decoders": "decoders",
}
DENOISERS = 2


@dataclass(frozen=True, slots=True)
class Outcome:
    """Whether what was tried held, and the figures."""

    held: bool
    said: str


@dataclass(slots=True)
class Stage:
    """What proofs are made on."""

    cluster: LocalCluster
    application: Application = field(init=False)

    def __post_init__(self) -> None:
        self.application = Application(self.cluster)

    @property
    def stores(self) -> Stores:
        """What outlives the nodes."""
        return self.cluster.stores

    def start(self) -> None:
        """Start all nodes, have the config deployed, and wait until pictures can be asked for."""
        self.cluster.start_head()
        for name, pool in WORKERS.items():
            self.cluster.start_worker(name, pool, _WORKER_CPUS)
        self.application.deployment("denoiser")["max_replicas_per_node"] = 1
        self.application.bound("denoiser", DENOISERS, DENOISERS)
        self.application.deploy()
        self.application.wait(self.ready)

    def door(self, node: str = HEAD) -> Door:
        """The proxy of a node."""
        return Door(self.cluster.nodes[node].url, self.stores.headers)

    def ready(self) -> bool:
        """Whether pictures can be asked for through the head."""
        try:
            return httpx.get(f"{self.door().url}/readyz", timeout=2, trust_env=False).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    def others(self, *deployments: str) -> set[tuple[str, int]]:
        """The processes of all replicas but those of some deployments."""
        return {
            (each.deployment, each.pid) for each in self.application.replicas() if each.deployment not in deployments
        }

    def pins(self) -> str:
        """The exact versions by which a picture is drawn just now."""
        body = {"prompt": "a red apple, 3d style", "steps": 2, "seed": 1}
        pins: str = self.door().post(GENERATIONS, body).headers["x-component-versions"]
        return pins

    def jobs(self) -> dict[str, tuple[str, int]]:
        """The status of every job, and how often it was begun, as PostgreSQL has them."""
        rows: list[tuple[Any, ...]] = self.stores.databases.rows(JOBS, "SELECT id, status, begun FROM jobs")
        return {id_: (status, begun) for id_, status, begun in rows}
