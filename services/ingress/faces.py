"""Every face of the server, and what each of them stands on."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic import BaseModel, ConfigDict, SecretStr

from pipeline.request import RequestRules
from services.ingress.a1111.face import A1111Face
from services.ingress.app import Face
from services.ingress.cluster import node_metrics, request_id
from services.ingress.http.addresses import PublicAddress
from services.ingress.http.multipart import Uploads
from services.ingress.jobs.calls import JobCalls
from services.ingress.jobs.face import JobsFace
from services.ingress.jobs.orders import JobOrders
from services.ingress.latents.face import LatentsFace
from services.ingress.openai.edits import EditsFace
from services.ingress.openai.generations import ImagesFace
from services.ingress.operations.health import HealthFace
from services.ingress.operations.page import PageFace
from services.ingress.operations.rollout import RolloutFace
from services.ingress.orders.admission import Admission
from services.ingress.orders.capabilities import CapabilitiesFace
from services.ingress.orders.drawings import Drawings
from services.ingress.orders.links import LinksFace
from services.ingress.orders.orders import Orders
from services.ingress.orders.pinning import Pinning
from services.ingress.stories.inspect import InspectFace
from services.ingress.stories.verify import VerifyFace
from services.ingress.timelines.face import TimelinesFace
from services.keys.settings import KeySettings
from services.messages import Drawn, Order, Progress, Queued
from services.metrics.ingress import IngressMetrics
from services.standing import Standing
from services.timelines.memory import Timeline, Timelines, TimelineSettings


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
    timelines: TimelineSettings = TimelineSettings()
    open: bool = False


@dataclass(frozen=True, slots=True)
class Foundation:
    """What the faces stand on; `graph`, `latents` and `jobs` are handles of deployments."""

    settings: IngressSettings
    pinning: Pinning
    admission: Admission
    metrics: IngressMetrics
    graph: Any
    latents: Any
    jobs: Any
    draw: Callable[[Order], Awaitable[Drawn]]
    watch: Callable[[Order, int], AsyncIterator[Progress | Queued | Drawn]]
    status: Callable[[], Awaitable[dict[str, Any]]]
    hint: Callable[[], Awaitable[None]]
    away_s: Callable[[], float | None]
    standings: Callable[[], Awaitable[Mapping[str, Standing]]]
    timelines: Timelines
    timeline: Callable[[str, str], Awaitable[Timeline | None]]


def faces_of(found: Foundation) -> list[Face]:
    """Every face; nothing is asked of what they stand on before a request comes."""
    settings, pinning, latents = found.settings, found.pinning, found.latents
    address = PublicAddress(settings.public_url, settings.trust_forwarded)
    links = LinksFace(latents.keep_picture.remote, latents.read_picture.remote, address)
    drawings = Drawings(found.draw, found.watch, links, pinning, found.metrics, found.timelines)
    kept = JobOrders(JobCalls(found.jobs), drawings, address)
    orders = Orders(pinning, settings.rules, drawings, request_id, found.admission, kept.answer)
    uploads = Uploads()
    # jobs wait in their store: a full or stopping server takes them all the same
    waiting = replace(orders, admission=Admission(settings.max_images, lambda _: None))
    decode, compare = found.graph.decode.remote, found.graph.compare.remote
    return [
        ImagesFace(pinning, orders, uploads),
        EditsFace(orders, uploads),
        links,
        CapabilitiesFace(pinning, settings.rules),
        JobsFace(waiting, kept, uploads, settings.webhook_http, settings.webhook_private),
        A1111Face(orders, uploads),
        InspectFace(uploads),
        VerifyFace(orders, uploads),
        LatentsFace(pinning, latents.read.remote, decode, compare, found.admission, found.metrics),
        TimelinesFace(found.timeline),
        HealthFace(found.standings, node_metrics, found.admission, found.away_s),
        RolloutFace(found.status, found.hint, settings.webhook_secret),
        PageFace(),
    ]
