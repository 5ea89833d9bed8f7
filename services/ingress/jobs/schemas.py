"""The bodies of the jobs face, and what it answers and tells."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from services.errors import FieldError
from services.ingress.wire.bodies import typed
from services.ingress.wire.requests import GenerationBody
from services.ingress.wire.schemas import GenerationAnswer, PartialImageEvent, ProgressEvent
from services.jobs.addresses import AddressRefusedError, check_url
from services.jobs.records import JobStatus, Webhook
from services.jobs.state import JobState
from services.jobs.webhooks import key_of

_SECRET = {"boxes", "prompt", "negative_prompt", "user", "webhook"}
_CHOICES = {"output_format", "priority", "quality", "response_format"}
_EXAMPLES: list[Any] = [
    {"prompt": "a red apple, 3d style"},
    {"prompt": "a red apple, 3d style", "partial_images": 2, "webhook": {"url": "https://hooks.example/pictures"}},
]


class WebhookBody(BaseModel):
    """Where a job's end is told."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    url: str = Field(description="an address of the public internet that begins with https://")
    secret: str | None = Field(
        None, description="`whsec_` and 24 to 64 bytes in base64, which signs what is told; left out: nothing does"
    )


class JobBody(GenerationBody):
    """A request for pictures that goes on without its caller: `stream`, `progress` and `on_disconnect` say nothing."""

    model_config = ConfigDict(json_schema_extra={"examples": _EXAMPLES})

    webhook: WebhookBody | None = Field(None, description="who is told of its end")


class JobPreview(BaseModel):
    """The newest preview of an unfinished picture, in its size."""

    image_index: int = Field(description="which of the n pictures, from 0")
    step: int = Field(description="after how many steps it was made")
    b64_json: str = Field(description="the file, in base64")


class JobAnswer(JobState):
    """A job, with its pictures once it is completed."""

    preview: JobPreview | None = Field(description="where partial_images asked for some, while it is being drawn")
    result: GenerationAnswer | None = Field(description="what a generation answers; null before it is completed")


class JobList(BaseModel):
    """A part of a caller's jobs, the newest first; `after` the last of them there are more."""

    object: Literal["list"] = Field("list", description="always `list`")
    data: list[JobState] = Field(description="the jobs")
    first_id: str | None = Field(description="the first one's id")
    last_id: str | None = Field(description="the last one's id, for `after`")
    has_more: bool = Field(description="whether older ones follow")


class JobEvent(BaseModel):
    """What has become of a job: `job.queued`, `job.generating`, `job.completed`, `job.failed` or `job.cancelled`."""

    type: str = Field(description="names the event")
    job: JobState = Field(description="the job after it")


JOB_EVENTS = (JobEvent, ProgressEvent, PartialImageEvent)
STATUSES: tuple[JobStatus, ...] = ("queued", "generating", "completed", "failed", "cancelled")


def typed_job(given: dict[str, Any]) -> JobBody:
    """Hold a body's JSON object to the fields that there are for a job.

    Raises:
        FieldError: a field is unknown, missing or of another type, or says nothing of a job.
    """
    body = typed(JobBody, given, _SECRET, _CHOICES)
    for field, value in (("stream", body.stream), ("progress", body.progress)):
        if value:
            raise FieldError(f"{field}=True: must be false or left out; a job's events tell of it", field)
    if body.on_disconnect == "cancel":
        raise FieldError("on_disconnect='cancel': must be keep or left out; a job goes on", "on_disconnect")
    return body


def webhook_of(body: JobBody, *, http: bool, private: bool) -> Webhook | None:
    """The webhook of a job, None where it has none; `http` and `private` say what is allowed besides.

    Raises:
        FieldError: its address leads to where none may, or its secret is none.
    """
    given = body.webhook
    if given is None:
        return None
    try:
        url = str(check_url(given.url, http=http, private=private))
    except AddressRefusedError as error:
        raise FieldError(f"webhook.url: {error}", "webhook.url") from None
    if given.secret is not None:
        try:
            key_of(given.secret)
        except ValueError as error:
            raise FieldError(f"webhook.secret: {error}", "webhook.secret") from None
    return Webhook(url, given.secret)
