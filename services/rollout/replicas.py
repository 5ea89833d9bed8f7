"""What the replicas of all stages hold, and having them prepare what is to go live."""

import asyncio
import time
from collections.abc import Callable, Collection, Sequence
from typing import Protocol

from components.contract import ALL_PARTS, Kind
from components.reference import ComponentRef, kind_of
from registry.errors import RegistryAwayError, RegistryError
from services.rollout.preparation import Preparation
from services.rollout.stages import Reports, Wanted

_ASK_AGAIN_S = 0.1


class Holds(Protocol):
    """What is asked of the stages' replicas, see `Stages`."""

    async def hold(self, wanted: Wanted, replaced: Collection[str]) -> Reports:
        """Have replicas keep versions open, and gather their reports."""

    async def resting(self) -> Collection[Kind]:
        """The stages that have no replica and need none."""


class Replicas:
    """Tells the replicas what to hold; used from one event loop only.

    `reports` is what they said last, `wanted` says what they are to hold at the moment it is called.
    """

    def __init__(self, stages: Holds, prepare_s: float, wanted: Callable[[], Wanted]) -> None:
        """Give each replica `prepare_s` seconds to prepare a version."""
        self.reports: Reports = {}
        self._stages = stages
        self._prepare_s = prepare_s
        self._wanted = wanted
        self._replaced: set[str] = set()
        self._alone = asyncio.Lock()

    async def hold(self) -> Reports:
        """Ask every replica what it holds, and tell it what to."""
        async with self._alone:
            self.reports = await self._stages.hold(self._wanted(), self._replaced)
            # who has ended is not told so again
            self._replaced &= {report.replica for reports in self.reports.values() for report in reports}
        return self.reports

    async def prepare(self, versions: Sequence[ComponentRef]) -> None:
        """Wait until every replica of every stage has opened these, which are among what is wanted.

        What is of a kind that no stage runs needs no preparation, and neither does a stage that rests: whoever starts
        there asks what is live.

        Raises:
            RegistryError: a replica could not in time, and neither could the one that took its place; a
                RegistryAwayError where only the registry was not there.
        """
        held = [ref for ref in versions if kind_of(ref.name) in ALL_PARTS]
        preparation = Preparation(held, self._prepare_s, time.monotonic)
        while not preparation.ready(await self.hold(), await self._resting()):
            if preparation.failed is not None:
                raise (RegistryAwayError if preparation.away else RegistryError)(preparation.failed)
            self._replaced |= preparation.replaced
            await asyncio.sleep(_ASK_AGAIN_S)

    async def _resting(self) -> Collection[Kind]:
        return () if all(self.reports.values()) else await self._stages.resting()
