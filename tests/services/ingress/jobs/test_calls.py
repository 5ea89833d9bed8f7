"""Following a job while the replica that tells of it stops."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any, Self

import pytest
from ray.exceptions import ActorDiedError

from services.ingress.jobs.calls import JobCalls
from services.jobs.desk import END
from services.jobs.records import JobNews

WHAT: Any = "a step"


class Told:
    """What one call gives, and then the end of its replica."""

    def __init__(self, ids: Sequence[str]) -> None:
        self._ids = ids

    async def __aiter__(self) -> AsyncIterator[JobNews]:
        for id_ in self._ids:
            yield JobNews(id_, WHAT)
        raise ActorDiedError

    def cancel(self) -> None:
        pass


class Jobs:
    """The deployment's handle; each call gives what stands next in `calls`."""

    def __init__(self, *calls: Sequence[str]) -> None:
        self._calls = iter(calls)
        self.asked: list[str] = []
        self.follow = self

    def options(self, *, stream: bool) -> Self:
        assert stream
        return self

    def remote(self, _id: str, _owner: str, after: str) -> Told:
        self.asked.append(after)
        return Told(next(self._calls))


@pytest.mark.parametrize(
    ("calls", "asked"),
    [
        # what comes last must not come twice
        ([["1-1", END]], [""]),
        ([["1-1"], ["2-1", END]], ["", "1-1"]),
        ([[], [], [END]], ["", "", ""]),
    ],
)
def test_it_goes_on_after_what_was_told_last(
    calls: list[list[str]], asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.ingress.jobs.calls._AGAIN_S", 0)
    jobs: Any = Jobs(*calls)

    async def followed() -> list[str]:
        return [news.id async for news in JobCalls(jobs).follow("a job", "ann")]

    assert asyncio.run(followed()) == [id_ for call in calls for id_ in call]
    assert jobs.asked == asked
