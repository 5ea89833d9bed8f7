"""What the ingress tells of one request, from when it is read until it is answered."""

from services.timelines.spans import Fact, Span, Stopwatch
from services.timelines.tracing import export


class Recording:
    """A request under way: parts that follow each other without a gap. One event loop uses it."""

    def __init__(self) -> None:
        self._watch = self._lap = Stopwatch()
        self._seconds = 0.0
        self._parts: list[Span] = []
        self.facts: dict[str, Fact] = {}

    def lap(self, name: str, *parts: Span) -> None:
        """What was done since the last lap has this name, and is made of these parts."""
        lap = self._lap.span(name, *parts)
        self._parts.append(lap)
        export(lap)
        self._lap = Stopwatch()
        self._seconds = self._watch.seconds

    def span(self, replica: str) -> Span:
        """All of it until the last lap; `replica` recorded it."""
        facts, parts = dict(self.facts), tuple(self._parts)
        return Span("request", self._watch.start, self._seconds, replica=replica, facts=facts, parts=parts)
