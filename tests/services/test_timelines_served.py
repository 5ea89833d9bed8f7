"""A request's timeline, trace and logs on a real server with two ingress replicas."""

import json
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.traces import read_spans
from tests.services.cluster import comes_true
from tests.services.server import GENERATIONS, Served, serving, temporary_home

pytestmark = pytest.mark.slow

CANARY = "canary-7d44"
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
STAGES = ("text_encoder", "denoiser", "vae_decoder")


@pytest.fixture(scope="module")
def served(toy_bundle: Path) -> Iterator[Served]:
    # of its own accord it traces next to nothing: the caller's decision holds
    options = ("--trace-share", "0.000000001", "--json-logs")
    with (
        temporary_home() as home,
        serving(home, "bundle=toy", f"folder={toy_bundle}", "ingress.replicas=2", *options) as server,
    ):
        yield server


def draw(served: Served, id_: str, *, traced: bool = False, **body: Any) -> None:
    headers = {"x-request-id": id_, "traceparent": f"00-{TRACE}-{PARENT}-0{int(traced)}"}
    body = {"prompt": f"a {CANARY}", "negative_prompt": CANARY, "steps": 4, **body}
    response = httpx.post(served.url + GENERATIONS, json=body, headers=headers, timeout=120)
    assert (response.status_code, response.headers["x-request-id"]) == (200, id_), response.text


def timeline(served: Served, id_: str) -> Any:
    response = httpx.get(f"{served.url}/v1/requests/{id_}/timeline", timeout=30)
    assert response.status_code == 200, response.text
    return response.json()


def test_either_ingress_replica_tells_the_timeline_of_any_request(served: Served) -> None:
    ids, replicas = list[str](), set[str]()
    # until both have drawn: whoever is asked then, some of these were the other's
    while len(replicas) < 2:
        ids.append(f"told-{len(ids)}")
        draw(served, ids[-1])
        replicas.add(timeline(served, ids[-1])["spans"][0]["replica"])
    for id_ in ids:
        assert timeline(served, id_)["request_id"] == id_
    assert httpx.get(f"{served.url}/v1/requests/nobodys/timeline", timeout=30).status_code == 404


def test_it_is_consistent_with_itself_and_with_the_answers_timings(served: Served) -> None:
    began = time.time()
    response = httpx.post(
        served.url + GENERATIONS, json={"prompt": "a red apple", "n": 2, "steps": 5, "guidance": 3}, timeout=120
    )
    ended = time.time()
    found = timeline(served, response.headers["x-request-id"])
    spans = found["spans"]
    assert began - 0.01 <= found["started_at"] <= found["started_at"] + found["total_s"] <= ended + 0.01
    for span in spans[1:]:
        parent = spans[span["parent"]]
        # clocks of two processes of one machine, and rounding
        assert parent["start_s"] - 0.01 <= span["start_s"]
        assert span["start_s"] + span["seconds"] <= parent["start_s"] + parent["seconds"] + 0.01
    pictures = [span["id"] for span in spans if span["name"] == "picture"]
    assert len(pictures) == 2
    timings = [one["timings"] for one in response.json()["data"]]
    for picture, times in zip(pictures, timings, strict=True):
        calls = {span["name"]: span["seconds"] for span in spans if span["parent"] == picture}
        assert calls["vae_decoder"] == pytest.approx(times["vae_decoder_s"], abs=1e-5)
        assert calls["denoiser"] == pytest.approx(times["denoiser_s"] + times["queued_s"], abs=1e-5)
    runs = [span for span in spans if span["name"] == "run"]
    assert len(runs) == 10
    assert all(2 <= run["facts"]["rows"] <= 4 for run in runs)
    assert {span["component"]["name"] for span in spans if span["component"]} == {f"toy.{stage}" for stage in STAGES}


def test_a_callers_trace_goes_through_every_deployment_down_to_the_runs(served: Served) -> None:
    draw(served, "not-traced")
    draw(served, "traced", traced=True)
    # each process writes at its own time
    wanted = Counter(
        run=4, walk=1, decode=1, file=1, answer=1, encode=1, graph=1, queue=3, transfer=3, proxy_http_request=1
    )
    assert comes_true(lambda: wanted <= Counter(span["name"].split()[0] for span in exported(served)))
    spans = exported(served)
    assert {span["context"]["trace_id"] for span in spans} == {f"0x{TRACE}"}
    by_id = {span["context"]["span_id"]: span for span in spans}

    def above(name: str) -> list[str]:
        [span, *_] = [one for one in spans if one["name"] == name]
        found = []
        while span["parent_id"] in by_id:
            span = by_id[span["parent_id"]]
            found.append(span["name"])
        assert span["parent_id"] == f"0x{PARENT}", "the caller's own"
        return found

    assert above("run")[:3] == ["walk", "replica_handle_request denoiser walk", "route_to_replica denoiser walk"]
    assert "replica_handle_request graph draw" in above("run")
    assert above("graph")[0] == "replica_handle_request graph draw"
    assert above("decode")[0] == "replica_handle_request vae_decoder decode"
    assert above("encode")[0] == "replica_handle_request text_encoder encode"
    [denoiser] = [span for span in spans if span["name"] == "walk"]
    runs = [span for span in spans if span["name"] == "run"]
    assert len(runs) == 4
    assert {span["parent_id"] for span in runs} == {denoiser["context"]["span_id"]}
    assert {"admission", "drawing", "answer", "file"} <= {span["name"] for span in spans}


def test_logs_are_structured_and_know_their_request(served: Served) -> None:
    draw(served, "logged")
    wanted = {f"default_{name}" for name in (*STAGES, "graph", "ingress")}
    assert comes_true(lambda: {line["deployment"] for line in logged(served)["logged"]} >= wanted)


def test_no_prompt_reaches_a_log_or_a_trace(served: Served) -> None:
    time.sleep(2)
    logs = [file for file in served.logs.rglob("*") if file.is_file() and "logs" in file.parts]
    assert [file for file in logs if file.parent.name == "spans"]
    assert [file.name for file in logs if CANARY.encode() in file.read_bytes()] == []


def serve_logs(served: Served) -> Path:
    [folder] = served.logs.glob("session_2*/logs/serve")
    return folder


def logged(served: Served) -> dict[str, list[dict[str, Any]]]:
    """The lines of Serve's logs by request. Before its logging is set up a replica writes text, of no request."""
    found = defaultdict(list)
    for file in serve_logs(served).glob("replica_*.log"):
        for line in file.read_text().splitlines():
            if not line.startswith("{"):
                assert line.split(" -- ")[0].split()[-1] in file.name, line
                continue
            told = json.loads(line)
            found[told.get("request_id", "")].append(told)
    return found


def exported(served: Served) -> list[dict[str, Any]]:
    return read_spans(serve_logs(served))
