"""A trace out of the files of Serve's exporter."""

import json
from pathlib import Path
from typing import Any

from benchmarks.traces import read_spans, tree_of

TRACE = "0af7651916cd43dd8448eb211c80319c"


def span(name: str, id_: str, parent: str | None, begun: float, ended: float, trace: str = TRACE) -> dict[str, Any]:
    return {
        "name": name,
        "context": {"trace_id": f"0x{trace}", "span_id": id_},
        "parent_id": parent,
        "start_time": f"2026-11-27T23:29:{begun:09.6f}Z",
        "end_time": f"2026-11-27T23:29:{ended:09.6f}Z",
    }


def test_spans_of_all_files_become_one_tree(tmp_path: Path) -> None:
    (tmp_path / "spans").mkdir()
    first = [span("replica", "0x2", "0x1", 1.25, 2.0), span("proxy", "0x1", "0xcaller", 1.0, 3.0)]
    second = [span("later", "0x4", "0x2", 1.75, 2.0), span("run", "0x3", "0x2", 1.5, 1.625)]
    half = json.dumps(span("half", "0x9", "0x2", 1.5, 1.6))[:40]
    (tmp_path / "spans" / "a.json").write_text("\n".join(json.dumps(one, indent=4) for one in first))
    (tmp_path / "spans" / "b.json").write_text("\n".join(json.dumps(one, indent=4) for one in second) + half)
    spans = [*read_spans(tmp_path), span("another", "0x7", None, 1.0, 2.0, trace="f" * 32)]
    assert [line.split() for line in tree_of(spans, TRACE).splitlines()] == [
        ["proxy", "0.0", "ms", "2000.0", "ms"],
        ["replica", "250.0", "ms", "750.0", "ms"],
        ["run", "500.0", "ms", "125.0", "ms"],
        ["later", "750.0", "ms", "250.0", "ms"],
    ]
    assert tree_of(spans, TRACE).splitlines()[2].startswith("    run ")


def test_a_trace_that_was_not_written_is_empty() -> None:
    assert tree_of([], TRACE) == ""
