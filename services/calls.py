"""Calls of stages' replicas, and where their time went as the caller sees it."""

import time
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from ray.serve.handle import DeploymentResponse, DeploymentResponseGenerator

from services.deadlines import Deadline
from services.errors import DeadlineExceededError

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, eq=False)
class Answered(Generic[Result]):
    """What a call came to: `queued_s` until a replica had taken it, `seconds` from then on."""

    result: Result
    queued_s: float
    seconds: float


async def taken(response: "DeploymentResponse[Any] | DeploymentResponseGenerator[Any]", deadline: Deadline) -> None:
    """Wait until a replica has taken a call that was just made; what the call raises until then is raised.

    Raises:
        DeadlineExceededError: no replica has in time, and none will.
    """
    try:
        async with deadline.ends("before a replica could take it"):
            # what awaiting a response does first; Serve has no public way to stop there
            await response._fetch_future_result_async()
    except DeadlineExceededError:
        response.cancel()
        raise


async def answered(response: "DeploymentResponse[Result]", deadline: Deadline) -> Answered[Result]:
    """Wait for the answer of a call that was just made; what the call raises is raised.

    Raises:
        DeadlineExceededError: as `taken`.
    """
    called = time.monotonic()
    await taken(response, deadline)
    begun = time.monotonic()
    result = await response
    return Answered(result, begun - called, time.monotonic() - begun)
