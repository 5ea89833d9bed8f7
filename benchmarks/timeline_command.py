"""`python -m benchmarks timeline`: one real request's timeline and its OpenTelemetry trace, for the documents."""

import secrets
import time
from pathlib import Path
from typing import Annotated

import httpx
import typer

from benchmarks.errors import BenchmarkError
from benchmarks.server import Server, serving
from benchmarks.traces import read_spans, tree_of
from services.client.blocking import Client
from services.client.waterfall import as_svg, as_text

_BODY = {"prompt": "a red apple, 3d style", "seed": 1}
_WARM = 2
_WRITTEN_WITHIN_S = 30.0
# processes write what they have every second
_LOOK_S = 3.0


def timeline(
    folder: Annotated[Path, typer.Argument(help="where timeline.svg and trace.txt go")] = Path("docs"),
    bundle: Annotated[Path, typer.Option(help="the bundle's folder")] = Path("models/emoji"),
    steps: Annotated[int, typer.Option(min=1, help="of the picture")] = 10,
) -> None:
    """Serve a bundle, draw one picture by HTTP once the server is warm, and write what became of it when."""
    trace = secrets.token_hex(16)
    with serving(bundle.absolute(), ("--trace-share", "0.000000001")) as server:
        for _ in range(_WARM):
            _draw(server, steps, {})
        # a caller's own decision
        request_id = _draw(server, steps, {"traceparent": f"00-{trace}-{secrets.token_hex(8)}-01"})
        with Client(server.url) as client:
            found = client.timeline(request_id)
        tree = _tree(server.logs, trace)
    (folder / "timeline.svg").write_text(as_svg(found), encoding="utf-8")
    (folder / "trace.txt").write_text(f"{tree}\n", encoding="utf-8")
    typer.echo(as_text(found))


def _draw(server: Server, steps: int, headers: dict[str, str]) -> str:
    body = {**_BODY, "steps": steps}
    answer = httpx.post(f"{server.url}/v1/images/generations", json=body, headers=headers, timeout=600, trust_env=False)
    if not answer.is_success:
        raise BenchmarkError(f"the server answered with status {answer.status_code}")
    return answer.headers["x-request-id"]


def _tree(logs: Path, trace: str) -> str:
    """The trace once all of it was written: with the proxy's span, and nothing more for longer than processes wait."""
    deadline = time.monotonic() + _WRITTEN_WITHIN_S
    before, tree = "", tree_of(read_spans(logs), trace)
    while tree != before or not tree.startswith("proxy_http_request"):
        if time.monotonic() > deadline:
            raise BenchmarkError("Serve did not write the trace")
        time.sleep(_LOOK_S)
        before, tree = tree, tree_of(read_spans(logs), trace)
    return tree
