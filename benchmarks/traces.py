"""What Ray Serve's own exporter wrote of a trace, as a tree."""

import json
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

_DECODER = json.JSONDecoder()


def read_spans(logs: Path) -> list[dict[str, Any]]:
    """All spans that were written beside Serve's logs, one whole JSON object after the other in each file."""
    return [span for file in sorted((logs / "spans").glob("*.json")) for span in _objects(file.read_text())]


def tree_of(spans: list[dict[str, Any]], trace: str) -> str:
    """The spans of one trace, 32 hex digits, each below its parent, with when it began and how long it took."""
    ours = sorted((one for one in spans if one["context"]["trace_id"] == f"0x{trace}"), key=lambda one: _began(one))
    known = {one["context"]["span_id"] for one in ours}
    below: defaultdict[str | None, list[dict[str, Any]]] = defaultdict(list)
    for one in ours:
        below[one["parent_id"] if one["parent_id"] in known else None].append(one)
    return "\n".join(_lines(below, None, 0, min(map(_began, ours), default=0.0)))


def _objects(text: str) -> Iterator[dict[str, Any]]:
    rest = text.strip()
    while rest:
        try:
            found, end = _DECODER.raw_decode(rest)
        except ValueError:
            # it is being written
            return
        yield found
        rest = rest[end:].strip()


def _lines(
    below: defaultdict[str | None, list[dict[str, Any]]], parent: str | None, depth: int, first: float
) -> Iterator[str]:
    for one in below[parent]:
        name = f"{'  ' * depth}{one['name']}"
        began = _began(one)
        took = datetime.fromisoformat(one["end_time"]).timestamp() - began
        yield f"{name:<64} {1000 * (began - first):8.1f} ms {1000 * took:8.1f} ms"
        yield from _lines(below, one["context"]["span_id"], depth + 1, first)


def _began(span: dict[str, Any]) -> float:
    return datetime.fromisoformat(span["start_time"]).timestamp()
