"""Waterfalls: in the terminal and as a file, of timelines that the application itself tells."""

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from services.client.answers import Timeline, TimelineSpan
from services.client.waterfall import as_svg, as_text, rows_of
from services.messages import Drawn, Order
from tests.services.client.conftest import Caller, run
from tests.services.ingress.conftest import Server, draw_at_once, listening
from tests.services.ingress.timelines.test_face import graph_of, with_timelines


def span(id_: int, parent: int | None, name: str, start_s: float, seconds: float) -> TimelineSpan:
    return TimelineSpan(
        id=id_,
        parent=parent,
        name=name,
        stage=None,
        component=None,
        replica=None,
        start_s=start_s,
        seconds=seconds,
        facts={},
    )


TIMELINE = Timeline(
    request_id="id-1",
    started_at=1000.0,
    total_s=1.0,
    phases={},
    spans=(
        span(0, None, "request", 0.0, 1.0),
        span(1, 0, "text_encoder", 0.0, 0.25),
        span(2, 0, "walk", 0.25, 0.5),
        span(3, 2, "run", 0.25, 0.25),
        span(4, 2, "run", 0.5, 0.25),
        span(5, 0, "walk", 0.75, 0.0),
        span(6, 5, "run", 0.75, 0.0),
    ),
)


def test_all_runs_of_a_walk_are_one_row() -> None:
    assert [(row.depth, row.label, row.works) for row in rows_of(TIMELINE)] == [
        (0, "request", False),
        (1, "text encoder", True),
        (1, "walk", False),
        (2, "2 runs", True),
        (1, "walk", False),
        (2, "run", True),
    ]


def test_bars_stand_where_their_time_is() -> None:
    lines = as_text(TIMELINE, width=8).split("\n")
    assert lines == [
        "request         ░░░░░░░░     1000.0 ms",
        "  text encoder  ██            250.0 ms",
        "  walk            ░░░░        500.0 ms",
        "    2 runs        ████        500.0 ms",
        "  walk                ░         0.0 ms",
        "    run               █         0.0 ms",
    ]


def test_the_file_is_svg_whose_title_says_it_in_words() -> None:
    root = ElementTree.fromstring(as_svg(TIMELINE))
    space = "{http://www.w3.org/2000/svg}"
    title = root.find(f"{space}title")
    assert title is not None
    assert "2 runs 500.0 ms" in str(title.text)
    bars = [one for one in root.iter(f"{space}rect") if one.get("class") in ("call", "work")]
    lefts, widths = ([float(bar.attrib[name]) for bar in bars] for name in ("x", "width"))
    assert len(bars) == 7
    assert (lefts[3] - lefts[0]) / widths[0] == pytest.approx(0.25, abs=0.01)
    assert widths[3] / widths[0] == pytest.approx(0.25, abs=0.01)


def test_a_requests_timeline_by_both_clients_and_the_command(server: Server, caller: Caller, tmp_path: Path) -> None:
    async def draw(order: Order) -> Drawn:
        return replace(await draw_at_once(order), span=graph_of(order, 1000.0))

    server.draw = draw
    with listening(with_timelines(server)) as url:
        assert caller.ask(url, "generate", "a red apple", user="ann").pictures
        found = caller.ask(url, "timeline", server.request_id, user="ann")
        assert [one.name for one in found.spans][:4] == ["request", "admission", "drawing", "graph"]
        assert caller.refused(url, "timeline", server.request_id).status == 404
        svg = tmp_path / "one.svg"
        asked = ("timeline", server.request_id, "--user", "ann", "--svg", str(svg), "--url", url)
        done = run(*asked)
        assert (done.returncode, done.stderr) == (0, "")
        assert [line.split()[0] for line in done.stdout.splitlines()][:3] == ["request", "admission", "drawing"]
        assert ElementTree.parse(svg).getroot().tag.endswith("svg")
        assert run(*asked).returncode == 2, "the file is there"
