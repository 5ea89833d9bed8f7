"""What the timelines face answers."""

from pydantic import BaseModel, Field

from services.ingress.wire.schemas import ComponentPin


class TimelineSpan(BaseModel):
    """One piece of work on a request."""

    id: int = Field(description="its number in this timeline, from 0, which is the whole request")
    parent: int | None = Field(description="the span that it is part of; null for the whole request")
    name: str = Field(
        description="request, admission, drawing, graph, held, text_encoder, vae_encoder, encode, picture, denoiser, "
        "walk, queue, run, transfer, lost, vae_decoder, decode, file, keep or answer"
    )
    stage: str | None = Field(description="the kind of component that worked or was called; null for other work")
    component: ComponentPin | None = Field(description="the version that worked; null for other work")
    replica: str | None = Field(description="the replica that it was done in")
    start_s: float = Field(description="when it began, in seconds since the request began")
    seconds: float = Field(description="how long it took")
    facts: dict[str, bool | int | float | str] = Field(
        description="what else is known of it: of a run its `rows`, the `pictures` that shared it, the picture's own "
        "`first_evaluation` and `last_evaluation`, and how many `runs` it stands for; of an encoding the `texts`, and "
        "how many of them were `cached`"
    )


class TimelineAnswer(BaseModel):
    """What became of a request when."""

    request_id: str = Field(description="the id that its answer had in `x-request-id`")
    started_at: float = Field(description="when it began, in seconds since 1970")
    total_s: float = Field(description="from when its body was read until its answer was written")
    phases: dict[str, float] = Field(
        description="seconds by the name of what has no parts itself; those of several pictures add up, though they "
        "may be side by side"
    )
    spans: list[TimelineSpan] = Field(description="each after the one that it is part of")
