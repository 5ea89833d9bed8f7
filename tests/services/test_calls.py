"""Where the time of a call goes, as its caller sees it."""

import asyncio
import time
from typing import Any

import pytest
from ray.exceptions import ActorDiedError

from services.calls import Answered, answered
from services.messages import Worked
from services.timelines.spans import Span
from tests.services.responses import Response

WORK = Span("encode", 0.0, 0.001)


class Waiting(Response):
    """A response of a replica that takes the call later."""

    async def _fetch_future_result_async(self) -> None:
        await asyncio.sleep(0.02)


def test_waiting_for_a_replica_is_told_from_waiting_for_its_answer() -> None:
    async def work() -> Worked[str]:
        await asyncio.sleep(0.01)
        return Worked("done", WORK, present_s=0.005)

    begun = time.monotonic()
    response: Any = Waiting(work)
    answer: Answered[str] = asyncio.run(answered(response))
    took = time.monotonic() - begun
    assert (answer.made, answer.work.name) == ("done", "encode")
    assert [span.name for span in answer.spans] == ["queue", "encode", "transfer"]
    assert answer.queue.seconds >= 0.015
    # all but what the replica says that it had the call for
    assert 0.004 <= answer.transfer.seconds <= took - answer.queue.seconds - 0.005
    assert answer.transfer.start >= answer.queue.end + 0.004


def test_a_replica_cannot_have_had_a_call_for_longer_than_it_took() -> None:
    async def work() -> Worked[str]:
        return Worked("done", WORK, present_s=60.0)

    response: Any = Response(work)
    answer: Answered[str] = asyncio.run(answered(response))
    assert answer.transfer.seconds == 0


def test_what_a_call_raises_is_raised() -> None:
    async def work() -> str:
        raise ActorDiedError

    response: Any = Response(work)
    with pytest.raises(ActorDiedError):
        asyncio.run(answered(response))
