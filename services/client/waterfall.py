"""A timeline as a waterfall: a row for each span, all runs of a walk in one, as text and as SVG."""

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape

from services.client.answers import Timeline, TimelineSpan

_RUN = "run"
_ROW, _LABELS, _BARS, _TIMES, _PAD = 22, 190, 520, 80, 10
_STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1f2328; }
.time { text-anchor: end; font-variant-numeric: tabular-nums; }
.ground { fill: #ffffff; }
.row { fill: #eff1f4; }
.call { fill: #9db7e8; }
.work { fill: #2f62c4; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; }
  .ground { fill: #0d1117; }
  .row { fill: #22272e; }
  .call { fill: #34548f; }
  .work { fill: #7aa5ff; }
}
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One row: spans of one name that follow each other, as their starts and lengths in seconds.

    `depth` is how many spans it is within; `works` says that it has no parts.
    """

    name: str
    depth: int
    bars: tuple[tuple[float, float], ...]
    works: bool

    @property
    def label(self) -> str:
        """What it is of, and of how many."""
        name = self.name.replace("_", " ")
        return name if len(self.bars) == 1 else f"{len(self.bars)} {name}s"

    @property
    def seconds(self) -> float:
        """All of its bars together."""
        return sum(seconds for _, seconds in self.bars)


def rows_of(timeline: Timeline) -> list[Row]:
    """The rows of a timeline, in the order of its spans."""
    return list(_rows(timeline.spans))


def as_text(timeline: Timeline, width: int = 48) -> str:
    """The waterfall in so many columns of bars, a line for each row."""
    rows = rows_of(timeline)
    labels = [f"{'  ' * row.depth}{row.label}" for row in rows]
    longest = max(map(len, labels))
    whole = timeline.total_s or 1.0
    return "\n".join(
        f"{label:<{longest}}  {_drawn(row, whole, width)}  {1000 * row.seconds:9.1f} ms"
        for label, row in zip(labels, rows, strict=True)
    )


def as_svg(timeline: Timeline) -> str:
    """The waterfall as an SVG file, whose text tells what its bars show."""
    rows, whole = rows_of(timeline), timeline.total_s or 1.0
    width, height = _LABELS + _BARS + _TIMES + 2 * _PAD, _ROW * len(rows) + 2 * _PAD
    said = ", ".join(f"{row.label} {1000 * row.seconds:.1f} ms" for row in rows)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">',
            f"<title>Waterfall of one request: {escape(said)}</title>",
            f"<style>{_STYLE}</style>",
            '<rect class="ground" width="100%" height="100%"/>',
            *(line for index, row in enumerate(rows) for line in _svg_row(row, _PAD + index * _ROW, whole)),
            "</svg>\n",
        ]
    )


def _rows(spans: tuple[TimelineSpan, ...]) -> Iterator[Row]:
    parents = {span.parent for span in spans}
    depths: dict[int, int] = {}
    together: Row | None = None
    for span in spans:
        depths[span.id] = 0 if span.parent is None else depths[span.parent] + 1
        row = Row(span.name, depths[span.id], ((span.start_s, span.seconds),), span.id not in parents)
        if together is not None and span.name == _RUN and together.depth == row.depth:
            together = Row(row.name, row.depth, (*together.bars, *row.bars), row.works)
            continue
        if together is not None:
            yield together
        together = row if span.name == _RUN else None
        if together is None:
            yield row
    if together is not None:
        yield together


def _drawn(row: Row, whole: float, width: int) -> str:
    columns = [" "] * width
    for start, seconds in row.bars:
        first = min(width - 1, int(width * start / whole))
        last = min(width, max(first + 1, round(width * (start + seconds) / whole)))
        columns[first:last] = ("█" if row.works else "░") * (last - first)
    return "".join(columns)


def _svg_row(row: Row, top: float, whole: float) -> Iterator[str]:
    yield f'<rect class="row" x="{_PAD + _LABELS}" y="{top + 4}" width="{_BARS}" height="{_ROW - 8}"/>'
    for start, seconds in row.bars:
        left, width = _PAD + _LABELS + _BARS * start / whole, max(1.0, _BARS * seconds / whole)
        kind = "work" if row.works else "call"
        yield f'<rect class="{kind}" x="{left:.1f}" y="{top + 4}" width="{width:.1f}" height="{_ROW - 8}"/>'
    yield f'<text x="{_PAD + 12 * row.depth}" y="{top + 15}">{escape(row.label)}</text>'
    right = _PAD + _LABELS + _BARS + _TIMES
    yield f'<text class="time" x="{right}" y="{top + 15}">{1000 * row.seconds:.1f} ms</text>'
