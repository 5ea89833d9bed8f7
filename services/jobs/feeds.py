"""What is told of jobs while they wait and are drawn, to whoever follows them."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Hashable
from dataclasses import replace
from typing import NamedTuple

from services.messages import Progress


class Told(NamedTuple):
    """The newest of its kind: a step, a preview with how many `previews` came before it, or None: another state."""

    number: int
    what: Progress | None
    previews: int = 0


class Feed:
    """The newest of each kind of one job's news; whoever is slow misses what newer ones took the place of."""

    def __init__(self) -> None:
        self._told: dict[Hashable, Told] = {}
        self._previews: Counter[int] = Counter()
        self._steps: dict[int, Progress] = {}
        self._preview: Progress | None = None
        self._number = 0
        self._ended = False
        self._news = asyncio.Event()

    def step(self, progress: Progress, most_previews: int) -> None:
        """A step of a picture was done; of its previews no more count than that."""
        image, previews = progress.image, self._previews[progress.image]
        if progress.preview is not None and previews < most_previews:
            self._tell(("preview", image), progress, previews)
            self._previews[image] += 1
            self._preview = progress
        self._steps[image] = alone = replace(progress, preview=None)
        self._tell(("step", image), alone)

    def changed(self) -> None:
        """The job waits, or is being drawn, from its beginning on."""
        self._told.clear()
        self._steps.clear()
        self._previews.clear()
        self._preview = None
        self._tell("state", None)

    def end(self) -> None:
        """The job has ended."""
        self._ended = True
        self._wake()

    def newest(self) -> tuple[tuple[Progress, ...], Progress | None]:
        """How far each picture is that was begun, and the step with the newest preview."""
        return tuple(self._steps[image] for image in sorted(self._steps)), self._preview

    async def after(self, number: int) -> AsyncIterator[Told]:
        """What was told after that number, and is, until the job has ended."""
        while True:
            news = self._news
            for one in sorted(self._told.values()):
                if one.number > number:
                    number = one.number
                    yield one
            if self._ended:
                return
            if news is self._news:
                await news.wait()

    def _tell(self, kind: Hashable, what: Progress | None, previews: int = 0) -> None:
        self._number += 1
        self._told[kind] = Told(self._number, what, previews)
        self._wake()

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()


class Feeds:
    """The feeds of all jobs that have not ended and that somebody follows or draws; one event loop uses it."""

    def __init__(self) -> None:
        self._feeds: dict[str, Feed] = {}

    def of(self, id_: str) -> Feed:
        """The feed of a job that has not ended."""
        return self._feeds.setdefault(id_, Feed())

    def end(self, id_: str) -> None:
        """A job has ended."""
        feed = self._feeds.pop(id_, None)
        if feed is not None:
            feed.end()

    def ids(self) -> list[str]:
        """The jobs that there are feeds of."""
        return list(self._feeds)

    def newest(self, id_: str) -> tuple[tuple[Progress, ...], Progress | None]:
        """How far the pictures of a job are, as `Feed.newest` tells it."""
        feed = self._feeds.get(id_)
        return ((), None) if feed is None else feed.newest()
