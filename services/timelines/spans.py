"""A span: one piece of a request's work, with the pieces that it is made of."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from components.contract import Kind
from components.reference import ComponentRef

Fact: TypeAlias = bool | int | float | str


@dataclass(frozen=True, slots=True)
class Span:
    """One piece of work: it began at `start`, in seconds since 1970 by its own machine's clock, and took `seconds`.

    `component` is the version that did it. One without a `replica` is of the same as the span that it is part of.
    """

    name: str
    start: float
    seconds: float
    stage: Kind | None = None
    component: ComponentRef | None = None
    replica: str | None = None
    facts: Mapping[str, Fact] = field(default_factory=dict)
    parts: tuple["Span", ...] = ()

    @property
    def end(self) -> float:
        """When it ended, in seconds since 1970."""
        return self.start + self.seconds

    @property
    def size(self) -> int:
        """How many spans it is, with itself."""
        return sum(1 for _ in self.walk())

    def walk(self) -> Iterator["Span"]:
        """Itself, and all that it is made of."""
        yield self
        for part in self.parts:
            yield from part.walk()

    def seconds_of(self, name: str) -> float:
        """The seconds of all spans of that name in it."""
        return sum(span.seconds for span in self.walk() if span.name == name)


class Stopwatch:
    """Times one piece of work: when it began is the wall clock's, how long it took is not."""

    __slots__ = ("_begun", "start")

    def __init__(self) -> None:
        self.start = time.time()
        self._begun = time.perf_counter()

    @property
    def seconds(self) -> float:
        """How long it has been going on."""
        return time.perf_counter() - self._begun

    def span(
        self,
        name: str,
        *parts: Span,
        stage: Kind | None = None,
        component: ComponentRef | None = None,
        replica: str | None = None,
        **facts: Fact,
    ) -> Span:
        """What was timed, which ends now."""
        return Span(name, self.start, self.seconds, stage, component, replica, facts, parts)
