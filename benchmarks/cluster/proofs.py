"""What a local cluster proves, one thing after the other, each under load."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx

from benchmarks.cluster.application import Application
from benchmarks.cluster.load import Load, load_on
from benchmarks.cluster.nodes import LocalCluster, node_labels
from benchmarks.errors import BenchmarkError

_WORKER_CPUS = 2.0
# of each pool; the denoisers' has a node more than replicas, as a new one starts before an old one stops
_WORKERS = {
    "front": "front",
    "encoders": "encoders",
    "denoisers-1": "denoisers",
    "denoisers-2": "denoisers",
    "denoisers-3": "denoisers",
    "decoders": "decoders",
}
_JOBS = 6
_JOB_STEPS = 40


@dataclass(frozen=True, slots=True)
class Proof:
    """One thing that was tried: whether it held, and the figures."""

    name: str
    held: bool
    said: str


@dataclass(slots=True)
class Proofs:
    """A cluster and the graph on it, and what was proved so far."""

    cluster: LocalCluster
    say: Callable[[str], None]
    found: list[Proof] = field(default_factory=list)
    application: Application = field(init=False)

    def __post_init__(self) -> None:
        self.application = Application(self.cluster)

    def all(self) -> tuple[Proof, ...]:
        """Start everything, and try one thing after the other."""
        self.say("starting Ray's nodes")
        self.cluster.start_head()
        for name, pool in _WORKERS.items():
            self.cluster.start_worker(name, pool, _WORKER_CPUS)
        self.say("deploying")
        self.application.deployment("denoiser").update(num_replicas=2, max_replicas_per_node=1)
        self.application.deploy()
        self.application.wait(self._ready)
        for proof in (self.pools, self.scaling, self.option, self.lost_worker, self.lost_head):
            name = proof.__name__.replace("_", " ")
            self.say(name)
            try:
                proof()
            except (BenchmarkError, httpx.HTTPError) as error:
                self._add(name, False, str(error))
        return tuple(self.found)

    def pools(self) -> None:
        """Each component's replicas are in their pool."""
        labels = node_labels(self.cluster)
        replicas = self.application.replicas()
        there = {(replica.deployment, labels.get(replica.node, {}).get("pool", "")) for replica in replicas}
        wanted = {
            (entry["name"], entry["ray_actor_options"]["label_selector"]["pool"])
            for entry in self.application.config["applications"][0]["deployments"]
        }
        said = ", ".join(f"{name}: {pool}" for name, pool in sorted(there))
        self._add("replicas run in their pools", there == wanted, said)

    def scaling(self) -> None:
        """The decoder goes from one replica to three and back, and no other replica is touched."""
        before = self._others("vae_decoder")
        with load_on(self.application.url) as load:
            for count in (3, 1):
                self.application.deployment("vae_decoder")["num_replicas"] = count
                self.application.deploy()
                if len(self.application.pids("vae_decoder")) != count:
                    raise BenchmarkError(f"there are not {count} decoders")
        same = before == self._others("vae_decoder")
        self._add("the decoder scaled 1, 3, 1 alone", same and not load.failed, _account(load))

    def option(self) -> None:
        """A changed option of the denoiser exchanges its replicas, and those alone."""
        before, denoisers = self._others("denoiser"), self.application.pids("denoiser")
        variables = self.application.deployment("denoiser")["ray_actor_options"]["runtime_env"]["env_vars"]
        with load_on(self.application.url) as load:
            variables["LATENTWORKS_DENOISER__RUN_ROWS"] = "4"
            self.application.deploy()
        now = self.application.pids("denoiser")
        alone = before == self._others("denoiser") and not denoisers & now and len(now) == len(denoisers)
        self._add("an option of the denoiser rolled it alone", alone and not load.failed, _account(load))

    def lost_worker(self) -> None:
        """A node with a denoiser dies, and no request is lost; another node of the pool takes its place."""
        denoisers = [each for each in self.application.replicas() if each.deployment == "denoiser"]
        lost = node_labels(self.cluster)[denoisers[0].node]["node"]
        pids = {each.pid for each in denoisers}
        with load_on(self.application.url) as load:
            self.application.wait(lambda: len(load.answered) > 2)
            self.cluster.nodes[lost].kill()
            self.application.wait(lambda: len(self.application.pids("denoiser") & pids) == 1)
            self.application.wait(lambda: len(self.application.pids("denoiser")) == len(pids))
            count = len(load.answered)
            self.application.wait(lambda: len(load.answered) > count + 2)
        self._add("a worker node died, no request was lost", not load.failed, _account(load))

    def lost_head(self) -> None:
        """The head dies and starts again: jobs go on, pins are the same; how long nothing was answered."""
        pins, jobs = self._pins(), [self._submit(seed) for seed in range(_JOBS)]
        self.cluster.nodes["head"].kill()
        died = time.monotonic()
        self.cluster.start_head()
        self.application.wait(self._ready)
        away_s = time.monotonic() - died
        self.application.wait(lambda: all(self._job(job) in ("completed", "failed", "cancelled") for job in jobs))
        ends = [self._job(job) for job in jobs]
        same = pins == self._pins()
        said = f"{away_s:.1f} s without service; jobs: {', '.join(ends)}; pins: {'the same' if same else 'others'}"
        self._add("the head died and started again", same and ends == _JOBS * ["completed"], said)

    def _others(self, deployment: str) -> set[tuple[str, int]]:
        return {(each.deployment, each.pid) for each in self.application.replicas() if each.deployment != deployment}

    def _add(self, name: str, held: bool, said: str) -> None:
        self.found.append(Proof(name, held, said))

    def _ready(self) -> bool:
        try:
            return httpx.get(f"{self.application.url}/readyz", timeout=2, trust_env=False).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    def _pins(self) -> str:
        body = {"prompt": "a red apple, 3d style", "steps": 2, "seed": 1}
        answer = httpx.post(f"{self.application.url}/v1/images/generations", json=body, timeout=60, trust_env=False)
        return answer.raise_for_status().headers["x-component-versions"]

    def _submit(self, seed: int) -> str:
        body = {"prompt": "a red apple, 3d style", "steps": _JOB_STEPS, "seed": seed}
        answer = httpx.post(f"{self.application.url}/v1/jobs", json=body, timeout=60, trust_env=False)
        return str(answer.raise_for_status().json()["id"])

    def _job(self, id_: str) -> str:
        answer = httpx.get(f"{self.application.url}/v1/jobs/{id_}", timeout=60, trust_env=False)
        return str(answer.json()["status"]) if answer.status_code == httpx.codes.OK else ""


def _account(load: Load) -> str:
    failed = "none failed" if not load.failed else f"{len(load.failed)} failed, the first: {load.failed[0][1]}"
    alike = "all alike" if len(load.pictures) == 1 else f"{len(load.pictures)} different pictures"
    return (
        f"{len(load.answered)} requests, {failed}, {alike}; longest time without an answer {load.longest_gap_s:.1f} s"
    )
