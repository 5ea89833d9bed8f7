"""Where the time of a call goes, as its caller sees it."""

import asyncio
import time
from typing import Any

import pytest
from ray.exceptions import ActorDiedError

from services.calls import Answered, answered, taken
from services.deadlines import Deadline
from services.errors import DeadlineExceededError
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
    answer: Answered[str] = asyncio.run(answered(response, Deadline()))
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
    answer: Answered[str] = asyncio.run(answered(response, Deadline()))
    assert answer.transfer.seconds == 0


def test_what_a_call_raises_is_raised() -> None:
    async def work() -> str:
        raise ActorDiedError

    response: Any = Response(work)
    with pytest.raises(ActorDiedError):
        asyncio.run(answered(response, Deadline()))


class Untaken(Response):
    """A response of a stage without replicas."""

    def __init__(self) -> None:
        super().__init__(lambda: asyncio.sleep(3600))
        self.cancelled = 0

    async def _fetch_future_result_async(self) -> None:
        await asyncio.Event().wait()

    def cancel(self) -> None:
        self.cancelled += 1


def test_a_call_that_no_replica_takes_in_time_is_taken_back() -> None:
    response: Any = Untaken()
    with pytest.raises(
        DeadlineExceededError, match="deadline_s=0.05: has passed before a replica could take it"
    ) as end:
        asyncio.run(answered(response, Deadline(0.05)))
    assert (end.value.param, response.cancelled) == ("deadline_s", 1)


def test_the_deadline_counts_from_the_requests_arrival() -> None:
    response: Any = Untaken()
    with pytest.raises(DeadlineExceededError):
        asyncio.run(taken(response, Deadline(3600, arrived=time.monotonic() - 3600)))


def test_once_a_replica_has_taken_it_the_replica_keeps_the_deadline() -> None:
    async def work() -> Worked[str]:
        await asyncio.sleep(0.1)
        return Worked("done", WORK, present_s=0.1)

    response: Any = Response(work)
    assert asyncio.run(answered(response, Deadline(0.05))).made == "done"
