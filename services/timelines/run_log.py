"""What one walk remembers of its wait and of the runs that it took part in."""

import time
from typing import NamedTuple

from components.contract import Kind
from components.reference import ComponentRef
from services.timelines.spans import Span

MOST_RUNS = 256


class Ran(NamedTuple):
    """One run: when it began by the replica's clock, its seconds, its rows and pictures, and the walk's evaluation."""

    begun: float
    seconds: float
    rows: int
    pictures: int
    evaluation: int


class RunLog:
    """The runs of one walk, in their order."""

    __slots__ = ("_ran",)

    def __init__(self) -> None:
        self._ran: list[Ran] = []

    def add(self, ran: Ran) -> None:
        """Note a run that has ended."""
        self._ran.append(ran)

    def span(self, arrived: float, now: float, pin: ComponentRef, replica: str) -> Span:
        """The walk from its arrival until now, both by the replica's clock: its wait, then its runs.

        Of more than `MOST_RUNS` runs neighbours become one span, which tells how many it stands for.
        """
        since_1970 = time.time() - now
        first = self._ran[0].begun
        each = -(-len(self._ran) // MOST_RUNS)
        groups = [self._ran[index : index + each] for index in range(0, len(self._ran), each)]
        queue = Span("queue", arrived + since_1970, max(0.0, first - arrived))
        parts = (queue, *(_merged(group, since_1970) for group in groups))
        return Span("walk", arrived + since_1970, now - arrived, Kind.DENOISER, pin, replica, parts=parts)


def _merged(group: list[Ran], since_1970: float) -> Span:
    first, last = group[0], group[-1]
    facts = {
        "runs": len(group),
        "rows": max(ran.rows for ran in group),
        "pictures": max(ran.pictures for ran in group),
        "first_evaluation": first.evaluation,
        "last_evaluation": last.evaluation,
    }
    return Span("run", first.begun + since_1970, last.begun + last.seconds - first.begun, facts=facts)
