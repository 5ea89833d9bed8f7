"""The stages' replicas as the controller sees them: what each holds, and that it is to hold more."""

import asyncio
import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from ray import serve
from ray.exceptions import ActorDiedError, RayError
from ray.serve.exceptions import RayServeException

from components.contract import ALL_PARTS, Kind
from components.reference import ComponentRef
from services.errors import UnavailableError
from services.messages import ReplicaReport
from services.standing import Standings

_log = logging.getLogger("ray.serve")

# a replica that does not answer such a question in this time has not prepared anything
_ANSWER_S = 5.0

Reports = Mapping[Kind, tuple[ReplicaReport, ...]]
Wanted = Mapping[Kind, Sequence[ComponentRef]]


class Answer(Protocol):
    """One replica's answer, see `ray.serve._private.replica_result.ReplicaResult`."""

    async def get_async(self) -> ReplicaReport:
        """Wait for it."""


class Stages:
    """Asks every running replica of every stage of one application."""

    def __init__(self, application: str) -> None:
        self._application = application
        self._standings = Standings(application)

    async def hold(self, wanted: Wanted, replaced: Collection[str]) -> Reports:
        """Have each stage's replicas keep versions open, and gather their reports; none of a stage that is not there.

        Replicas named in `replaced` end, so that Serve starts others in their place. Of one that does not answer in
        time the report names no version, so that it has not prepared any; the others' reports count all the same.
        """
        answers = [self._stage(kind, pins, replaced) for kind, pins in wanted.items()]
        return dict(zip(wanted, await asyncio.gather(*answers), strict=True))

    async def resting(self) -> Collection[Kind]:
        """The stages that have no replica and need none; none of them where Serve's controller does not answer."""
        try:
            found = await self._standings()
        except UnavailableError:
            return ()
        return [kind for kind in ALL_PARTS if kind in found and found[kind].rests]

    async def _stage(
        self, kind: Kind, pins: Sequence[ComponentRef], replaced: Collection[str]
    ) -> tuple[ReplicaReport, ...]:
        try:
            handle = serve.get_deployment_handle(kind.value, self._application)
            response = handle.broadcast("hold", tuple(pins), frozenset(replaced))
            # what is public gives all of them or none
            asked = await asyncio.wait_for(response._fetch_replica_results_async(), _ANSWER_S)
        except (RayError, RayServeException, TimeoutError) as error:
            # one that is just starting or ending; whoever waits for it asks again
            _log.debug("%s: no report: %s", kind, type(error).__name__)
            return ()
        found = await asyncio.gather(*(_report(kind, number, answer) for number, answer in enumerate(asked)))
        return tuple(report for report in found if report is not None)


async def _report(kind: Kind, number: int, answer: Answer) -> ReplicaReport | None:
    """What one replica says; None of one that has died."""
    try:
        return await asyncio.wait_for(answer.get_async(), _ANSWER_S)
    except ActorDiedError:
        return None
    except (RayError, RayServeException, TimeoutError) as error:
        # Serve's own check of its health ends one that stays so
        _log.debug("%s: no report: %s", kind, type(error).__name__)
        return ReplicaReport(f"{kind} without an answer {number + 1}", "", ())
