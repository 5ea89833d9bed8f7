"""Calls of stages' replicas, and where their time went as the caller sees it."""

import time
from dataclasses import dataclass
from typing import Generic, TypeVar

from ray.serve.handle import DeploymentResponse

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, eq=False)
class Answered(Generic[Result]):
    """What a call came to: `queued_s` until a replica had taken it, `seconds` from then on."""

    result: Result
    queued_s: float
    seconds: float


async def answered(response: "DeploymentResponse[Result]") -> Answered[Result]:
    """Wait for the answer of a call that was just made; what the call raises is raised."""
    called = time.monotonic()
    # what awaiting a response does first; Serve has no public way to stop there
    await response._fetch_future_result_async()
    taken = time.monotonic()
    result = await response
    return Answered(result, taken - called, time.monotonic() - taken)
