"""Calls of stages' replicas, and where their time went as the caller sees it."""

from dataclasses import dataclass
from typing import Any, Generic

from ray.serve.handle import DeploymentResponse, DeploymentResponseGenerator

from services.deadlines import Deadline
from services.errors import DeadlineExceededError
from services.messages import Made, Worked
from services.timelines.spans import Span, Stopwatch


@dataclass(frozen=True, slots=True, eq=False)
class Answered(Generic[Made]):
    """What a call came to: the wait until a replica had taken it, the work, and the way of the answer."""

    made: Made
    queue: Span
    work: Span
    transfer: Span

    @property
    def spans(self) -> tuple[Span, ...]:
        """What the call is made of."""
        return self.queue, self.work, self.transfer


async def taken(response: "DeploymentResponse[Any] | DeploymentResponseGenerator[Any]", deadline: Deadline) -> Span:
    """Wait until a replica has taken a call that was just made; what the call raises until then is raised.

    Raises:
        DeadlineExceededError: no replica has in time, and none will.
    """
    called = Stopwatch()
    try:
        async with deadline.ends("before a replica could take it"):
            # what awaiting a response does first; Serve has no public way to stop there
            await response._fetch_future_result_async()
    except DeadlineExceededError:
        response.cancel()
        raise
    return called.span("queue")


def transfer(since_taken: Stopwatch, present_s: float) -> Span:
    """The way of an answer that has just come: what is left since a replica took the call, but its time in there."""
    seconds = since_taken.seconds
    away_s = max(0.0, seconds - present_s)
    return Span("transfer", since_taken.start + seconds - away_s, away_s)


async def answered(response: "DeploymentResponse[Worked[Made]]", deadline: Deadline) -> Answered[Made]:
    """Wait for the answer of a call that was just made; what the call raises is raised.

    Raises:
        DeadlineExceededError: as `taken`.
    """
    queue = await taken(response, deadline)
    since_taken = Stopwatch()
    worked = await response
    return Answered(worked.made, queue, worked.span, transfer(since_taken, worked.present_s))
