"""The ingress's deployment: the HTTP application in a replica."""

import asyncio
import time
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, SecretStr
from ray import serve
from ray.serve.handle import DeploymentHandle

from pipeline.request import RequestRules
from services.ingress.admission import Admission
from services.ingress.app import create_app
from services.ingress.cluster import RunningReplicas, node_metrics, request_id
from services.ingress.health import HealthFace
from services.ingress.latents import LatentsFace
from services.ingress.openai import ImagesFace
from services.ingress.pinning import Pinning
from services.ingress.rollout import RolloutFace
from services.messages import Drawn, Order
from services.metrics import IngressMetrics

_POLL_S = 0.05


class IngressSettings(BaseModel):
    """What the HTTP side needs to know."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rules: RequestRules
    max_images: int
    retry_after_s: int
    webhook_secret: SecretStr | None = None


@serve.ingress()
class IngressDeployment:
    """Checks requests, pins them to versions, hands them to the graph, and writes the answers."""

    async def __init__(  # type: ignore[misc]  # Serve awaits it
        self, rollout: DeploymentHandle, graph: DeploymentHandle, latents: DeploymentHandle, settings: IngressSettings
    ) -> None:
        self._graph = graph
        self._latents = latents
        self._settings = settings
        self._rollout = rollout
        self._pinning = Pinning(rollout, await rollout.record.remote())
        self._following = asyncio.create_task(self._pinning.follow())
        self._metrics = IngressMetrics()
        self._admission = Admission(settings.max_images, self._metrics.admitted_images.set)

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Put the application together, after the constructor."""
        images = ImagesFace(self._pinning, self._settings.rules, self._draw, request_id, self._admission, self._metrics)
        replicas = RunningReplicas(serve.get_replica_context().app_name)
        health = HealthFace(replicas, node_metrics, self._admission, self._away_s)
        rollout = RolloutFace(self._status, self._hint, self._settings.webhook_secret)
        latents = LatentsFace(
            self._pinning,
            self._latents.read.remote,
            self._graph.decode.remote,
            self._graph.compare.remote,
            self._admission,
            self._metrics,
        )
        return create_app([images, latents, health, rollout], self._metrics, self._settings.retry_after_s)

    def __del__(self) -> None:
        """End what runs beside the calls; Serve calls it on the event loop, before the replica stops."""
        if hasattr(self, "_following"):
            self._following.cancel()

    async def drain(self, wait_s: float) -> int:
        """Take no more requests, wait up to `wait_s` seconds for those under way, and count the pictures left."""
        self._admission.draining = True
        deadline = time.monotonic() + wait_s
        while self._admission.images and time.monotonic() < deadline:
            await asyncio.sleep(_POLL_S)
        return self._admission.images

    async def check_health(self) -> None:
        """Tell Serve whether this replica can still work.

        Raises:
            RuntimeError: it does not hear of new versions any more.
        """
        if self._following.done():
            raise RuntimeError("the ingress does not hear of new versions any more")

    def _away_s(self) -> float | None:
        since = self._pinning.record.away_since
        return None if since is None else max(0.0, time.time() - since)

    async def _status(self) -> dict[str, Any]:
        found: dict[str, Any] = await self._rollout.status.remote()
        return found

    async def _hint(self) -> None:
        await self._rollout.hint.remote()

    async def _draw(self, order: Order) -> Drawn:
        drawn: Drawn = await self._graph.draw.remote(order)
        return drawn
