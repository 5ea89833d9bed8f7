"""Timelines in memory: whose they are, how many, and for how long."""

from services.timelines.memory import Timelines, TimelineSettings
from services.timelines.recordings import Recording
from services.timelines.spans import Span


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def recorded(parts: int = 1) -> Recording:
    recording = Recording()
    for index in range(parts):
        recording.lap(f"part {index}")
    return recording


def timelines(clock: Clock, most_spans: int = 100, keep_s: float = 10.0) -> Timelines:
    return Timelines(TimelineSettings(most_spans=most_spans, keep_s=keep_s), "here", clock)


def test_a_recording_is_laps_without_a_gap() -> None:
    recording = Recording()
    recording.lap("admission")
    recording.lap("drawing", Span("graph", 0.0, 1.0))
    recording.facts["images"] = 2
    whole = recording.span("here")
    assert (whole.name, whole.replica, whole.facts) == ("request", "here", {"images": 2})
    admission, drawing = whole.parts
    assert [part.name for part in drawing.parts] == ["graph"]
    assert admission.start == whole.start
    assert 0 <= drawing.start - admission.end < 0.1
    assert 0 <= whole.seconds - admission.seconds - drawing.seconds < 0.1


def test_a_timeline_is_its_owners_alone() -> None:
    kept = timelines(Clock())
    kept.keep("id-1", "ann", recorded())
    kept.keep("id-1", "ben", recorded(2))
    found = [kept.find("id-1", owner) for owner in ("ann", "ben", "")]
    assert [None if one is None else one.span.size for one in found] == [2, 3, None]
    assert kept.find("id-2", "ann") is None


def test_the_newest_of_an_id_stays() -> None:
    kept = timelines(Clock())
    for parts in (1, 2):
        kept.keep("id-1", "ann", recorded(parts))
    found = kept.find("id-1", "ann")
    assert found is not None
    assert (found.span.size, kept.spans) == (3, 4)


def test_a_lap_after_it_was_kept_is_told_too() -> None:
    kept, recording = timelines(Clock()), recorded()
    kept.keep("id-1", "", recording)
    recording.lap("answer")
    found = kept.find("id-1", "")
    assert found is not None
    assert [part.name for part in found.span.parts] == ["part 0", "answer"]


def test_the_oldest_make_room() -> None:
    kept = timelines(Clock(), most_spans=9)
    for number in range(4):
        # the whole, its part, and one to come
        kept.keep(f"id-{number}", "", recorded())
        assert kept.spans <= 9
    assert [kept.find(f"id-{number}", "") is not None for number in range(4)] == [False, True, True, True]
    kept.keep("long", "", recorded(50))
    assert kept.find("long", "") is None
    assert kept.find("id-3", "") is not None, "one that has no room at all drives nobody out"


def test_they_go_after_their_time() -> None:
    clock = Clock()
    kept = timelines(clock)
    kept.keep("id-1", "", recorded())
    clock.now += 9
    kept.keep("id-2", "", recorded())
    assert kept.find("id-1", "") is not None
    clock.now += 1
    assert kept.find("id-1", "") is None
    assert kept.find("id-2", "") is not None
    clock.now += 10
    assert kept.find("id-2", "") is None
    assert kept.spans == 0


def test_none_are_kept_where_there_is_no_room() -> None:
    kept = timelines(Clock(), most_spans=0)
    kept.keep("id-1", "", recorded())
    assert (kept.find("id-1", ""), kept.spans) == (None, 0)
