"""What crosses between deployments about jobs."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from services.files.pictures import Link
from services.messages import Drawn, Order, Progress, ToldQuality

JobStatus: TypeAlias = Literal["queued", "generating", "completed", "failed", "cancelled"]
DeliveryState: TypeAlias = Literal["pending", "delivered", "given_up"]
ENDED: tuple[JobStatus, ...] = ("completed", "failed", "cancelled")


@dataclass(frozen=True, slots=True, kw_only=True)
class JobTerms:
    """How a job is drawn and answered, beside its order.

    A preview of each picture comes every `preview_every` steps, at most `previews` of them; 0 is none. With `links` the
    pictures are kept for signed links. `chosen` says whether it names versions of its own. `address` is how its caller
    reaches this server. `most_at_once` bounds the owner's pictures being drawn by jobs; None is no bound.
    """

    bundle: str
    quality: ToldQuality | None = None
    previews: int = 0
    preview_every: int = 0
    links: bool = False
    chosen: bool = False
    address: str = ""
    most_at_once: int | None = None


@dataclass(frozen=True, slots=True, repr=False)
class Webhook:
    """Where a job's end is told, and the secret that signs it; None signs nothing."""

    url: str
    secret: str | None = None


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Submission:
    """A job as it is accepted; `fingerprint` tells one request from another that comes with the same `key`."""

    order: Order
    terms: JobTerms
    owner: str
    key: str | None = None
    fingerprint: str = ""
    webhook: Webhook | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFailure:
    """An error as it is kept: its status, and OpenAI's parts of it."""

    status: int
    message: str
    type: str
    param: str | None = None
    code: str | None = None
    should_retry: bool | None = None


@dataclass(frozen=True, slots=True)
class Delivery:
    """How far the telling of a job's end is; `status` is the receiver's last answer, None without one."""

    state: DeliveryState
    attempts: int
    status: int | None


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class JobView:
    """A job as it is now; its order has no source here, and no texts once it has ended.

    Times are seconds since 1970. `position` in the queue is 1 for the next one, None for a job that does not wait.
    `preview` is the step with the newest preview of all its pictures. `drawn` are its pictures, which a list leaves
    out; those of `links` are without their files.
    """

    id: str
    status: JobStatus
    order: Order
    terms: JobTerms
    created: float
    started: float | None = None
    ended: float | None = None
    expires: float | None = None
    position: int | None = None
    progress: tuple[Progress, ...] = ()
    preview: Progress | None = None
    drawn: Drawn | None = None
    links: tuple[Link, ...] = ()
    failure: JobFailure | None = None
    delivery: Delivery | None = None

    @property
    def has_ended(self) -> bool:
        """Whether nothing of it will change any more, but the telling of it."""
        return self.status in ENDED


@dataclass(frozen=True, slots=True, eq=False)
class JobPage:
    """A part of an owner's jobs, the newest first, and whether older ones follow."""

    jobs: tuple[JobView, ...]
    has_more: bool


@dataclass(frozen=True, slots=True, eq=False)
class JobNews:
    """What happened to a job: a step of a picture, or the job as it is now; whoever comes back names the newest `id`.

    `previews` is how many previews of the picture came before this step's.
    """

    id: str
    what: Progress | JobView
    previews: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class ClaimedJob:
    """A job that a runner draws."""

    number: int
    id: str
    order: Order
    terms: JobTerms
    created: float
    begun: int


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class DueDelivery:
    """The end of a job that is to be told now, for the `attempt`-th time."""

    number: int
    webhook: Webhook
    attempt: int
    job: JobView
