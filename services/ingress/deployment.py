"""The ingress's deployment: the HTTP application in a replica."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI
from ray import serve
from ray.serve.handle import DeploymentHandle

from services.ingress.app import create_app
from services.ingress.cluster import Siblings, listening_host
from services.ingress.faces import Foundation, IngressSettings, faces_of
from services.ingress.orders.admission import Admission
from services.ingress.orders.pinning import Pinning
from services.keys.exposure import require_keys
from services.keys.source import KeySource
from services.messages import Drawn, Order, Progress, Queued
from services.metrics.ingress import IngressMetrics
from services.replica import whereabouts
from services.standing import Standings
from services.timelines.memory import Timeline, Timelines

_POLL_S = 0.05


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
        self._timelines = Timelines(settings.timelines, whereabouts()[0])
        self._keys = await asyncio.to_thread(KeySource, settings.keys)
        has_keys = self._keys.keyring is not None
        await asyncio.to_thread(lambda: require_keys(listening_host(), has_keys=has_keys, is_open=settings.open))
        self._pinning = Pinning(rollout, await rollout.record.remote())
        self._following = asyncio.create_task(self._pinning.follow())
        self._reading_keys = asyncio.create_task(self._keys.follow(self._metrics.has_keys))
        self._admission = Admission(settings.max_images, self._metrics.admitted_images.set)

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Put the application together, after the constructor."""
        context = serve.get_replica_context()
        siblings = Siblings(context.deployment, context.app_name, self._timelines)
        found = Foundation(
            settings=self._settings,
            pinning=self._pinning,
            admission=self._admission,
            metrics=self._metrics,
            graph=self._graph,
            latents=self._latents,
            jobs=self._jobs,
            draw=self._draw,
            watch=self._watch,
            status=self._status,
            hint=self._hint,
            away_s=self._away_s,
            standings=Standings(context.app_name),
            timelines=self._timelines,
            timeline=siblings.timeline,
        )
        return create_app(faces_of(found), self._metrics, self._settings.retry_after_s, self._keys.keyring)

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

    async def timeline(self, request_id: str, owner: str) -> Timeline | None:
        """The timeline of a request that this replica answered, None where there is none of that id and owner."""
        return self._timelines.find(request_id, owner)

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

    async def _watch(self, order: Order, preview_every: int) -> AsyncIterator[Progress | Queued | Drawn]:
        news = self._watched.watch.remote(order, preview_every)
        try:
            async for one in news:
                yield one
        except BaseException:
            # whoever leaves before the end wants no more of it
            news.cancel()
            raise
