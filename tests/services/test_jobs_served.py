"""Jobs on a real local cluster, whose replicas are killed and whose application is deployed again."""

import asyncio
import base64
import json
import sqlite3
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import websockets

from tests.services.cluster import MOST_SECONDS, Application, Cluster, comes_true

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

# some seconds of the toy denoiser, whose cost grows with the picture
LONG: dict[str, Any] = {"prompt": "a red apple", "size": "512x512", "steps": 60, "seed": 3}
LONGER: dict[str, Any] = {**LONG, "size": "1024x1024", "steps": 80}
SHORT: dict[str, Any] = {"prompt": "a red apple", "steps": 3, "seed": 11}
CANARY = "canary-77d1"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
SETTINGS: dict[str, Any] = {
    "jobs": {"at_once": 1, "webhook_http": True, "webhook_private": True, "webhook_attempts": 20},
    "graph": {"replicas": 2},
}


@pytest.fixture(scope="module")
def one(cluster: Cluster, toy_bundle: Path) -> Iterator[Application]:
    with cluster.deployed("jobs", "toy", toy_bundle, **SETTINGS) as application:
        yield application


def submit(application: Application, key: str | None = None, **body: Any) -> dict[str, Any]:
    headers = {} if key is None else {"idempotency-key": key}
    response = httpx.post(f"{application.url}/v1/jobs", json=body, headers=headers, timeout=MOST_SECONDS)
    assert response.status_code == 202, response.text
    made: dict[str, Any] = response.json()
    return made


def show(application: Application, id_: str) -> dict[str, Any]:
    """A job's state, also while the replica that knows it is about to start again."""
    while True:
        response = httpx.get(f"{application.url}/v1/jobs/{id_}", timeout=MOST_SECONDS)
        if response.status_code != 503:
            break
        time.sleep(0.2)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


def comes_to(application: Application, id_: str, *statuses: str) -> dict[str, Any]:
    deadline = time.monotonic() + MOST_SECONDS
    while (job := show(application, id_))["status"] not in statuses:
        assert job["ended"] is None, job
        assert time.monotonic() < deadline, job
        time.sleep(0.1)
    return job


def picture(job: dict[str, Any]) -> bytes:
    [image] = job["result"]["data"]
    return base64.b64decode(image["b64_json"])


def direct(application: Application, **body: Any) -> bytes:
    response = application.generate(**body)
    assert response.status_code == 200, response.text
    return response.content


def test_a_job_gives_the_bytes_of_a_generation(one: Application) -> None:
    id_ = submit(one, **SHORT)["id"]
    job = comes_to(one, id_, "completed")
    assert picture(job) == direct(one, **SHORT)
    assert one.metric_reaches(1, "latentworks_jobs_ended_total", 'status="completed"')


def test_jobs_outlive_a_replica_that_is_killed(one: Application) -> None:
    """What was being drawn is drawn again, what waits is drawn in its order, and each job has one result."""
    keys = [f"killed-{number}" for number in range(4)]
    mine = [submit(one, key, **{**LONG, "seed": number})["id"] for number, key in enumerate(keys)]
    comes_to(one, mine[0], "generating")
    assert comes_true(lambda: show(one, mine[0])["progress"])
    killed = one.kill("jobs")
    again = [submit(one, key, **{**LONG, "seed": number})["id"] for number, key in enumerate(keys)]
    assert again == mine
    assert one.heals("jobs", 1, killed)
    jobs = [comes_to(one, id_, "completed") for id_ in mine]
    for number, job in enumerate(jobs):
        assert picture(job) == direct(one, **{**LONG, "seed": number})
    ended = [job["ended"] for job in jobs]
    assert ended == sorted(ended)
    assert [job["timings"]["generating_s"] > 0 for job in jobs] == [True] * 4


def test_jobs_outlive_an_application_that_is_deployed_again(
    cluster: Cluster, toy_bundle: Path, one: Application
) -> None:
    mine = [submit(one, f"redeployed-{number}", **{**LONG, "seed": number})["id"] for number in range(3)]
    comes_to(one, mine[0], "generating")
    cluster.remove(one)
    with sqlite3.connect(f"file:{database(cluster)}?mode=ro", uri=True) as kept:
        [(count,)] = kept.execute("select count(*) from jobs where status in ('queued', 'generating')")
    # the first may have come to its end while its replica was stopping
    assert count >= 2
    again = cluster.deploy("jobs", "toy", toy_bundle, **SETTINGS)
    jobs = [comes_to(again, id_, "completed") for id_ in mine]
    for number, job in enumerate(jobs):
        assert picture(job) == direct(again, **{**LONG, "seed": number})
        assert {pin["version"] for pin in job["result"]["components"].values()} == {1}
    with sqlite3.connect(f"file:{database(cluster)}?mode=ro", uri=True) as kept:
        drawn = kept.execute("select job, count(*) from pictures group by job").fetchall()
    assert {count for _, count in drawn} == {1}


def database(cluster: Cluster) -> Path:
    return cluster.home / "registry-jobs" / "jobs" / "jobs.sqlite3"


def test_a_cancelled_job_costs_no_more(one: Application) -> None:
    id_ = submit(one, **LONGER)["id"]
    assert comes_true(lambda: show(one, id_)["progress"])
    cancelled = httpx.delete(f"{one.url}/v1/jobs/{id_}", timeout=MOST_SECONDS)
    assert (cancelled.status_code, cancelled.json()["status"]) == (200, "cancelled")
    assert one.metric_reaches(1, "latentworks_denoiser_cancelled_total", 'reason="caller_left"')
    # its place is free at once
    comes_to(one, submit(one, **SHORT)["id"], "completed")
    assert show(one, id_)["status"] == "cancelled"


def events(text: str) -> list[tuple[str, str | None]]:
    blocks = [dict(line.partition(": ")[::2] for line in block.splitlines()) for block in text.split("\n\n")]
    return [(block["event"], block.get("id")) for block in blocks if "event" in block]


def test_who_follows_a_job_follows_it_past_a_replica_that_is_killed(one: Application) -> None:
    job = submit(one, **LONGER, partial_images=2)
    lines: list[str] = []

    def follow() -> None:
        with httpx.stream("GET", f"{one.url}/v1/jobs/{job['id']}/events", timeout=MOST_SECONDS) as response:
            for line in response.iter_lines():
                lines.append(line)

    following = threading.Thread(target=follow)
    following.start()
    # a step was told: the replica that tells of it is killed then
    assert comes_true(lambda: "event: image_generation.progress" in lines)
    killed = one.kill("jobs")
    following.join()
    told = events("\n".join(lines))
    assert [kind for kind, _ in told][-2:] == ["image_generation.completed", "job.completed"]
    assert "error" not in {kind for kind, _ in told}
    # of two runners
    assert len({id_.split("-")[0] for _, id_ in told if id_ not in (None, "end")}) == 2
    assert one.heals("jobs", 1, killed)


def test_a_websocket_tells_of_a_job_through_the_proxy(one: Application) -> None:
    async def scenario() -> list[dict[str, Any]]:
        job = submit(one, **{**SHORT, "steps": 20}, partial_images=1)
        async with websockets.connect(f"{one.url.replace('http', 'ws')}/v1/jobs/{job['id']}/ws") as line:
            return [json.loads(message) async for message in line]

    told = asyncio.run(scenario())
    assert [message["type"] for message in told][-2:] == ["image_generation.completed", "job.completed"]
    assert base64.b64decode(told[-2]["b64_json"]) == direct(one, **{**SHORT, "steps": 20})
    assert told[-1]["job"]["url"].startswith("http://")


def test_a_request_that_is_kept_goes_on_when_its_client_leaves(one: Application) -> None:
    body = {**LONGER, "on_disconnect": "keep"}
    headers = {"idempotency-key": "kept"}
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{one.url}/v1/images/generations", json=body, headers=headers, timeout=1.5)
    # long enough for the proxy to find the client gone
    time.sleep(1)
    answer = httpx.post(f"{one.url}/v1/images/generations", json=body, headers=headers, timeout=MOST_SECONDS)
    assert answer.status_code == 200, answer.text
    job = show(one, answer.headers["x-job-id"])
    assert picture(job) == base64.b64decode(answer.json()["data"][0]["b64_json"]) == direct(one, **LONGER)
    assert job["created"] <= time.time() - job["timings"]["generating_s"]


def test_a_webhook_is_told_across_a_replica_that_is_killed(one: Application) -> None:
    got: list[tuple[str, dict[str, Any]]] = []
    answers = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            got.append((self.headers["webhook-id"], json.loads(body)))
            self.send_response(204 if answers.is_set() else 503)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as receiver:
        serving = threading.Thread(target=receiver.serve_forever)
        serving.start()
        try:
            url = f"http://127.0.0.1:{receiver.server_address[1]}/{CANARY}"
            id_ = submit(one, **{**SHORT, "prompt": CANARY}, webhook={"url": url, "secret": SECRET})["id"]
            assert comes_true(lambda: got)
            killed = one.kill("jobs")
            answers.set()
            assert one.heals("jobs", 1, killed)
            assert comes_true(lambda: show(one, id_)["webhook"]["state"] == "delivered")
        finally:
            receiver.shutdown()
            serving.join()
    assert len(got) >= 2
    assert {name for name, _ in got} == {id_}
    assert {(told["type"], told["data"]["status"]) for _, told in got} == {("job.completed", "completed")}


def test_prompts_secrets_and_addresses_reach_no_log(cluster: Cluster, one: Application) -> None:
    id_ = submit(one, CANARY, prompt=CANARY, steps=2, user=CANARY, webhook={"url": f"http://127.0.0.1:1/{CANARY}"})[
        "id"
    ]
    assert comes_true(
        lambda: httpx.get(f"{one.url}/v1/jobs/{id_}", params={"user": CANARY}, timeout=30).json()["ended"]
    )
    assert one.metric_reaches(1, "latentworks_webhooks_total", 'outcome="failed"')
    time.sleep(2)
    logs = [file for file in (cluster.home / "ray").rglob("*") if file.is_file() and "logs" in file.parts]
    assert len(logs) > 10
    for secret in (CANARY.encode(), SECRET.encode()):
        assert [file.name for file in logs if secret in file.read_bytes()] == []
