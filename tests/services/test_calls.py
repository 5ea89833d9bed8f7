"""Where the time of a call goes, as its caller sees it."""

import asyncio
import time
from typing import Any

import pytest
from ray.exceptions import ActorDiedError

from services.calls import Answered, answered
from tests.services.responses import Response


class Waiting(Response):
    """A response of a replica that takes the call later."""

    async def _fetch_future_result_async(self) -> None:
        await asyncio.sleep(0.02)


def test_waiting_for_a_replica_is_told_from_waiting_for_its_answer() -> None:
    async def work() -> str:
        await asyncio.sleep(0.005)
        return "done"

    begun = time.monotonic()
    response: Any = Waiting(work)
    answer: Answered[str] = asyncio.run(answered(response))
    took = time.monotonic() - begun
    assert answer.result == "done"
    assert answer.queued_s >= 0.015
    assert answer.seconds >= 0.004
    assert answer.queued_s + answer.seconds <= took


def test_what_a_call_raises_is_raised() -> None:
    async def work() -> str:
        raise ActorDiedError

    response: Any = Response(work)
    with pytest.raises(ActorDiedError):
        asyncio.run(answered(response))
