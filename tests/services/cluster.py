"""A real Ray cluster in this process, on which applications are deployed and their replicas killed."""

import os
import re
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
import pytest
import ray
from ray import serve
from ray.serve.handle import DeploymentHandle

import ray_app
from benchmarks.processes import family
from components.contract import Kind
from components.messages import ImageRequest
from pipeline.request import RequestFields, RequestRules, check_request
from services.messages import (
    Drawn,
    Encoding,
    LiveModel,
    LiveRecord,
    Order,
    Progress,
    Queued,
    Terms,
    WalkOrder,
    WalkReport,
)
from tests.services.server import free_port, temporary_home

MOST_SECONDS = 120


@dataclass
class Application:
    """One graph on the cluster, asked by its handles or by HTTP at `url`."""

    name: str
    url: str
    live: LiveModel

    def handle(self, deployment: str) -> DeploymentHandle:
        return serve.get_deployment_handle(deployment, self.name)

    def request(self, **fields: Any) -> ImageRequest:
        chosen = RequestFields(**{"prompt": "a red apple, 3d style", **fields})
        return check_request(chosen, self.live.contracts[Kind.DENOISER], RequestRules())

    def order(self, request: ImageRequest, terms: Terms | None = None) -> Order:
        return Order(request, self.live.pins, Encoding(), Terms() if terms is None else terms)

    async def picture(self, request: ImageRequest, terms: Terms | None = None) -> bytes:
        drawn: Drawn = await self.handle("graph").draw.remote(self.order(request, terms))
        return drawn.pictures[0].data

    async def watch(self, request: ImageRequest, preview_every: int = 0) -> AsyncIterator[Progress | Queued | Drawn]:
        graph = self.handle("graph").options(stream=True)
        async for news in graph.watch.remote(self.order(request), preview_every):
            yield news

    async def latents(self, request: ImageRequest, order: str) -> npt.NDArray[np.float32]:
        """What the denoiser's deployment gives, before any decoder."""
        pins = self.live.pins
        encoded = self.handle("text_encoder").encode.remote(
            pins[Kind.TEXT_ENCODER], request.texts, 1, request.weighting, request.clip_skip, request.phrases
        )
        walk = WalkOrder(order=order, pin=pins[Kind.DENOISER], request=request, terms=Terms(), report_every=4)
        reports = [one async for one in self.handle("denoiser").options(stream=True).walk.remote(walk, encoded)]
        last: WalkReport = reports[-1]
        assert last.latents is not None
        return last.latents

    def generate(self, **body: Any) -> httpx.Response:
        headers = {"accept": "image/png"}
        return httpx.post(f"{self.url}/v1/images/generations", json=body, headers=headers, timeout=MOST_SECONDS)

    def generate_json(self, **body: Any) -> httpx.Response:
        return httpx.post(f"{self.url}/v1/images/generations", json=body, timeout=MOST_SECONDS)

    def replicas(self, deployment: str) -> list[int]:
        """The processes of a deployment's replicas, by id."""
        title = f"ray::ServeReplica:{self.name}:{deployment}".encode()
        return [pid for pid in family(os.getpid()) if _command(pid).startswith(title)]

    def kill(self, deployment: str) -> int:
        """End one replica on the spot, as a machine that loses power does."""
        pid = self.replicas(deployment)[0]
        os.kill(pid, signal.SIGKILL)
        return pid

    def metric(self, name: str, *labels: str) -> float:
        """The sum of a metric's samples that carry all labels, over every process of the node."""
        page = httpx.get(self.url + "/metrics", timeout=30).text
        samples = (line for line in page.splitlines() if line.startswith(f"ray_{name}{{"))
        return sum(float(line.rsplit(" ", 1)[1]) for line in samples if all(label in line for label in labels))

    def by_process(self, name: str) -> Counter[str]:
        """A metric's samples added up for each process of the node; those that ended stay in it for a time."""
        page = httpx.get(self.url + "/metrics", timeout=30).text
        found: Counter[str] = Counter()
        for line in page.splitlines():
            if line.startswith(f"ray_{name}{{") and (worker := re.search(r'WorkerId="(\w+)"', line)):
                found[worker[1]] += int(float(line.rsplit(" ", 1)[1]))
        return found

    def metric_reaches(self, least: float, name: str, *labels: str) -> bool:
        return comes_true(lambda: self.metric(name, *labels) >= least)

    def heals(self, deployment: str, replicas: int, without: int) -> bool:
        """Whether the deployment comes to run as many replicas again, the killed one gone."""
        return comes_true(
            lambda: (
                len(running := self.replicas(deployment)) == replicas
                and without not in running
                and serve.status().applications[self.name].deployments[deployment].replica_states.get("RUNNING")
                == replicas
            )
        )


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def comes_true(there: Any) -> bool:
    deadline = time.monotonic() + MOST_SECONDS
    while time.monotonic() < deadline:
        if there():
            return True
        time.sleep(0.2)
    return False


@dataclass
class Cluster:
    """A running cluster with its own registry."""

    home: Path
    port: int

    def deploy(self, name: str, bundle: str, folder: Path, **arguments: Any) -> Application:
        home = self.home / f"registry-{name}"
        given = {"bundle": bundle, "folder": folder, "registry": {"home": home}, **arguments}
        serve.run(ray_app.build(given), name=name, route_prefix=f"/{name}")
        record: LiveRecord = serve.get_deployment_handle("rollout", name).record.remote().result()
        return Application(name, f"http://127.0.0.1:{self.port}/{name}", record.live)

    @contextmanager
    def deployed(self, name: str, bundle: str, folder: Path, **arguments: Any) -> Iterator[Application]:
        """Deploy an application for the length of a block."""
        application = self.deploy(name, bundle, folder, **arguments)
        try:
            yield application
        finally:
            self.remove(application)

    def remove(self, application: Application) -> None:
        serve.delete(application.name)


@contextmanager
def running() -> Iterator[Cluster]:
    """Start a cluster, and end it after the block."""
    with temporary_home() as home:
        port = free_port()
        with pytest.MonkeyPatch.context() as environment:
            # Its processes inherit it. Figures come every second instead of every ten; nothing of the developer's own
            # registry is used.
            environment.setenv("RAY_metrics_report_interval_ms", "1000")
            environment.setenv("RAY_worker_niceness", "0")
            environment.setenv("RAY_USAGE_STATS_ENABLED", "0")
            environment.setenv("HOME", str(home))
            environment.delenv("MLFLOW_TRACKING_URI", raising=False)
            ray.init(
                address="local",
                num_cpus=16,
                include_dashboard=False,
                log_to_driver=False,
                logging_level="ERROR",
                object_store_memory=400 * 2**20,
                _temp_dir=str(home / "ray"),
            )
            serve.start(http_options={"host": "127.0.0.1", "port": port})
        try:
            yield Cluster(home, port)
        finally:
            serve.shutdown()
            ray.shutdown()
