"""The ingress's deployment: the HTTP application in a replica."""

import asyncio
import time

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict
from ray import serve
from ray.serve.handle import DeploymentHandle

from pipeline.request import RequestRules
from services.ingress.admission import Admission
from services.ingress.app import create_app
from services.ingress.cluster import RunningReplicas, node_metrics
from services.ingress.health import HealthFace
from services.ingress.openai import ImagesFace
from services.messages import Drawn, LiveModel, Order
from services.metrics import IngressMetrics

_POLL_S = 0.05


class IngressSettings(BaseModel):
    """What the HTTP side needs to know."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rules: RequestRules
    max_images: int
    retry_after_s: int


@serve.ingress()
class IngressDeployment:
    """Checks requests, pins them to versions, hands them to the graph, and writes the answers."""

    async def __init__(self, catalog: DeploymentHandle, graph: DeploymentHandle, settings: IngressSettings) -> None:  # type: ignore[misc]  # Serve awaits it
        self._graph = graph
        self._settings = settings
        self._live: LiveModel = await catalog.live.remote()
        self._metrics = IngressMetrics()
        self._admission = Admission(settings.max_images, self._metrics.admitted_images.set)

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Put the application together, after the constructor."""
        images = ImagesFace(self._live, self._settings.rules, self._draw, self._admission, self._metrics)
        replicas = RunningReplicas(serve.get_replica_context().app_name)
        health = HealthFace(replicas, node_metrics, self._admission)
        return create_app(images, health, self._metrics, self._settings.retry_after_s)

    async def drain(self, wait_s: float) -> int:
        """Take no more requests, wait up to `wait_s` seconds for those under way, and count the pictures left."""
        self._admission.draining = True
        deadline = time.monotonic() + wait_s
        while self._admission.images and time.monotonic() < deadline:
            await asyncio.sleep(_POLL_S)
        return self._admission.images

    async def _draw(self, order: Order) -> Drawn:
        drawn: Drawn = await self._graph.draw.remote(order)
        return drawn
