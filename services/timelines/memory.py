"""The timelines of the latest requests, in memory: so many spans of them, for a time."""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus

from pydantic import BaseModel, ConfigDict, Field

from services.errors import CallerError
from services.timelines.recordings import Recording
from services.timelines.spans import Span

_LONGEST_ID = 128
# a part that is added after the timeline was kept
_TO_COME = 1


class TimelineSettings(BaseModel):
    """How many timelines an ingress replica keeps, in its memory."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    most_spans: int = Field(
        50_000,
        ge=0,
        le=10**7,
        description="the most spans of all timelines that an ingress replica keeps, some 500 bytes each; a picture of "
        "25 steps takes some 40; the oldest make room for new ones; 0: none is kept",
    )
    keep_s: float = Field(3600, gt=0, le=10**9, description="seconds for which a timeline is kept")


class TimelineNotFoundError(CallerError):
    """There is no timeline of that request for whoever asks: never was, or not any more, or it is another's."""

    status = HTTPStatus.NOT_FOUND
    code = "timeline_not_found"


@dataclass(frozen=True, slots=True)
class Timeline:
    """One request's timeline."""

    request_id: str
    span: Span


@dataclass(frozen=True, slots=True, eq=False)
class _Kept:
    recording: Recording
    spans: int
    at: float


class Timelines:
    """Keeps timelines by request id, each for its owner alone; one event loop uses it."""

    def __init__(
        self, settings: TimelineSettings, replica: str = "", clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Keep what `settings` allow; `replica` is the name of this one."""
        self._settings = settings
        self._replica = replica
        self._clock = clock
        self._kept: OrderedDict[tuple[str, str], _Kept] = OrderedDict()
        self._spans = 0

    @property
    def spans(self) -> int:
        """How many spans are kept."""
        return self._spans

    def keep(self, request_id: str, owner: str, recording: Recording) -> None:
        """Keep a request's recording, to which one lap may still be added; another of that id makes room for it.

        That of an id which is longer than anybody needs, as a caller may choose it, is not kept.
        """
        if len(request_id) > _LONGEST_ID:
            return
        self._drop((owner, request_id))
        spans = recording.span(self._replica).size + _TO_COME
        if spans > self._settings.most_spans:
            return
        self._kept[owner, request_id] = _Kept(recording, spans, self._clock())
        self._spans += spans
        self._tidy()

    def find(self, request_id: str, owner: str) -> Timeline | None:
        """A request's timeline, None where there is none of that id and owner."""
        self._tidy()
        kept = self._kept.get((owner, request_id))
        return None if kept is None else Timeline(request_id, kept.recording.span(self._replica))

    def _tidy(self) -> None:
        too_old = self._clock() - self._settings.keep_s
        while self._kept:
            oldest = next(iter(self._kept))
            if self._spans <= self._settings.most_spans and self._kept[oldest].at > too_old:
                return
            self._drop(oldest)

    def _drop(self, key: tuple[str, str]) -> None:
        kept = self._kept.pop(key, None)
        if kept is not None:
            self._spans -= kept.spans
