"""What operators ask: is the process alive, can it draw, what do its figures say."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from services.errors import UnavailableError
from services.ingress.access.callers import OPEN, OPERATE, Access
from services.ingress.orders.admission import Admission
from services.ingress.wire.schemas import ErrorAnswer
from services.standing import Standing

_NOT_READY: dict[int | str, dict[str, Any]] = {
    503: {"model": ErrorAnswer, "description": "no picture can be drawn just now, or the server is stopping"}
}
# what a picture from a prompt goes through; the others may start again meanwhile
_NEEDED = ("text_encoder", "denoiser", "vae_decoder", "graph", "ingress")
PROMETHEUS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Health(BaseModel):
    """An answer with nothing more to say."""

    status: str = Field("ok", description="always `ok`")


class Readiness(BaseModel):
    """How many replicas of each deployment take requests, and whether the registry answers, which no request needs."""

    status: str = Field("ready", description="always `ready`; else the answer is an error")
    replicas: dict[str, int] = Field(description="how many run, by deployment")
    registry: Literal["ok", "away"] = Field(
        "ok", description="away: it does not answer, and what was live last is served on"
    )
    registry_away_s: float | None = Field(None, description="for how long")


@dataclass(frozen=True, slots=True)
class HealthFace:
    """`standings` says how every deployment stands; `metrics_page` is the node's Prometheus page.

    `away_s` is how long the registry has not answered, None while it does.
    """

    standings: Callable[[], Awaitable[Mapping[str, Standing]]]
    metrics_page: Callable[[], Awaitable[bytes]]
    admission: Admission
    away_s: Callable[[], float | None]

    def router(self) -> APIRouter:
        """The face's routes."""
        router = APIRouter(tags=["operation"])
        router.add_api_route("/healthz", self.healthz, methods=["GET"], response_model=Health)
        router.add_api_route("/readyz", self.readyz, methods=["GET"], response_model=Readiness, responses=_NOT_READY)
        router.add_api_route("/metrics", self.metrics, methods=["GET"], response_class=Response)
        return router

    def access(self, path: str) -> Access:
        """Let in anybody who asks whether it works: Kubernetes has no key."""
        return OPEN if path in ("/healthz", "/readyz") else OPERATE

    async def healthz(self) -> Health:
        """Answer while this process is alive."""
        return Health()

    async def readyz(self) -> Readiness:
        """Answer 200 while pictures can be drawn: what they go through runs or would start, and requests are taken."""
        if self.admission.draining:
            raise UnavailableError("the server is about to stop")
        found = await self.standings()
        if missing := [name for name in _NEEDED if name not in found or not found[name].serves]:
            raise UnavailableError(f"no running replica of {', '.join(missing)}")
        replicas = {name: one.running for name, one in found.items()}
        away_s = self.away_s()
        return Readiness(replicas=replicas, registry="ok" if away_s is None else "away", registry_away_s=away_s)

    async def metrics(self) -> Response:
        """Prometheus figures of every process on this node: ours start with `ray_latentworks_`."""
        return Response(await self.metrics_page(), media_type=PROMETHEUS_TYPE)
