"""The ingress's deployment: the HTTP application in a replica."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, SecretStr
from ray import serve
from ray.serve.handle import DeploymentHandle

from pipeline.request import RequestRules
from services.ingress.a1111.face import A1111Face
from services.ingress.admission import Admission
from services.ingress.app import Face, create_app
from services.ingress.capabilities import CapabilitiesFace
from services.ingress.cluster import RunningReplicas, listening_host, node_metrics, request_id
from services.ingress.drawings import Drawings
from services.ingress.edits import EditsFace
from services.ingress.health import HealthFace
from services.ingress.inspect import InspectFace
from services.ingress.job_calls import JobCalls
from services.ingress.job_orders import JobOrders
from services.ingress.jobs import JobsFace
from services.ingress.latents import LatentsFace
from services.ingress.links import LinksFace, PublicAddress
from services.ingress.multipart import Uploads
from services.ingress.openai import ImagesFace
from services.ingress.orders import Orders
from services.ingress.page import PageFace
from services.ingress.pinning import Pinning
from services.ingress.rollout import RolloutFace
from services.ingress.verify import VerifyFace
from services.keys.exposure import require_keys
from services.keys.settings import KeySettings
from services.keys.source import KeySource
from services.messages import Drawn, Order, Progress
from services.metrics import IngressMetrics

_POLL_S = 0.05


class IngressSettings(BaseModel):
    """What the HTTP side needs to know."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rules: RequestRules
    max_images: int
    retry_after_s: int
    public_url: str | None = None
    trust_forwarded: bool = False
    webhook_secret: SecretStr | None = None
    webhook_http: bool = False
    webhook_private: bool = False
    keys: KeySettings = KeySettings()
    open: bool = False


@serve.ingress()
class IngressDeployment:
    """Checks requests, pins them to versions, hands them to the graph, and writes the answers."""

    async def __init__(  # type: ignore[misc]  # Serve awaits it
        self,
        rollout: DeploymentHandle,
        graph: DeploymentHandle,
        latents: DeploymentHandle,
        jobs: DeploymentHandle,
        settings: IngressSettings,
    ) -> None:
        self._graph = graph
        self._watched = graph.options(stream=True)
        self._latents = latents
        self._jobs = jobs
        self._settings = settings
        self._rollout = rollout
        self._metrics = IngressMetrics()
        self._keys = await asyncio.to_thread(KeySource, settings.keys)
        has_keys = self._keys.keyring is not None
        await asyncio.to_thread(lambda: require_keys(listening_host(), has_keys=has_keys, is_open=settings.open))
        self._pinning = Pinning(rollout, await rollout.record.remote())
        self._following = asyncio.create_task(self._pinning.follow())
        self._reading_keys = asyncio.create_task(self._keys.follow(self._metrics.has_keys))
        self._admission = Admission(settings.max_images, self._metrics.admitted_images.set)

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Put the application together, after the constructor."""
        address = PublicAddress(self._settings.public_url, self._settings.trust_forwarded)
        links = LinksFace(self._latents.keep_picture.remote, self._latents.read_picture.remote, address)
        drawings = Drawings(self._draw, self._watch, links, self._pinning, self._metrics)
        kept = JobOrders(JobCalls(self._jobs), drawings, address)
        orders = Orders(self._pinning, self._settings.rules, drawings, request_id, self._admission, kept.answer)
        uploads = Uploads()
        images, edits = ImagesFace(self._pinning, orders), EditsFace(orders, uploads)
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
        jobs = self._jobs_face(orders, kept)
        inspect, verify = InspectFace(uploads), VerifyFace(orders, uploads)
        capabilities = CapabilitiesFace(self._pinning, self._settings.rules)
        a1111 = A1111Face(orders, uploads)
        drawing: list[Face] = [images, edits, jobs, capabilities, a1111]
        faces = [*drawing, verify, links, latents, inspect, health, rollout, PageFace()]
        return create_app(faces, self._metrics, self._settings.retry_after_s, self._keys.keyring)

    def _jobs_face(self, orders: Orders, kept: JobOrders) -> JobsFace:
        # jobs wait in their store: a full or stopping server takes them all the same
        admission = Admission(self._settings.max_images, lambda _: None)
        http, private = self._settings.webhook_http, self._settings.webhook_private
        return JobsFace(replace(orders, admission=admission), kept, http, private)

    def __del__(self) -> None:
        """End what runs beside the calls; Serve calls it on the event loop, before the replica stops."""
        if hasattr(self, "_reading_keys"):
            self._following.cancel()
            self._reading_keys.cancel()

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
            RuntimeError: it does not hear of new versions, or of new keys, any more.
        """
        for what, task in (("versions", self._following), ("keys", self._reading_keys)):
            if task.done():
                raise RuntimeError(f"the ingress does not hear of new {what} any more")

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

    async def _watch(self, order: Order, preview_every: int) -> AsyncIterator[Progress | Drawn]:
        news = self._watched.watch.remote(order, preview_every)
        try:
            async for one in news:
                yield one
        except BaseException:
            # whoever leaves before the end wants no more of it
            news.cancel()
            raise
