"""Jobs over real sockets, with the real store and runner, on a graph that a test directs."""

import asyncio
import base64
import io
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import uvicorn
import websockets
from fastapi import FastAPI
from PIL import Image

from pipeline.request import RequestRules
from services.files.pictures import Link, PictureStore
from services.files.store import StoreSettings
from services.ingress.app import Face, create_app
from services.ingress.http.addresses import PublicAddress
from services.ingress.http.multipart import Uploads
from services.ingress.jobs.face import JobsFace
from services.ingress.jobs.orders import JobOrders
from services.ingress.openai.edits import EditsFace
from services.ingress.openai.generations import ImagesFace
from services.ingress.orders.admission import Admission
from services.ingress.orders.drawings import Drawings
from services.ingress.orders.links import LinksFace
from services.ingress.orders.orders import Orders
from services.keys.keyring import Keyring
from services.keys.records import KeyRecord, digest_of
from services.keys.settings import KeyLimits
from services.messages import Drawn, LiveModel, Order, PictureFormat, Progress
from tests.services.ingress.conftest import GENERATIONS, Server, error_of, watch_at_once
from tests.services.jobs.conftest import House, Running, running, with_settings
from tests.services.jobs.test_runner import Graph, failing

JOBS = "/v1/jobs"
ANN, BEN = "lw-ann-1f", "lw-ben-2e"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@dataclass
class Served:
    """A server on a real socket, its jobs, and a client of it."""

    at: Running
    server: Server
    url: str
    client: httpx.AsyncClient
    app: FastAPI

    async def submit(self, **body: Any) -> dict[str, Any]:
        response = await self.client.post(JOBS, json={"prompt": "a", **body})
        assert response.status_code == 202, response.text
        made: dict[str, Any] = response.json()
        return made

    async def comes_to(self, id_: str, status: str) -> dict[str, Any]:
        while (job := (await self.client.get(f"{JOBS}/{id_}")).json())["status"] != status:
            assert job["ended"] is None, job
            await asyncio.sleep(0.005)
        found: dict[str, Any] = job
        return found


class Quiet(uvicorn.Server):
    """A server that leaves the signals of the process alone."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def served(
    server: Server, house: House, watch: Any = watch_at_once, keyring: Keyring | None = None
) -> AsyncIterator[Served]:
    store = PictureStore(
        StoreSettings(store=str(house.folder / "pictures"), most_bytes=2**20, keep_s=60), lambda _: None
    )

    async def keep(data: bytes, format_: PictureFormat) -> Link:
        return store.keep(data, format_)

    async def read(link: Link) -> bytes:
        return store.read(link)

    async def no_draw(_order: Order) -> Drawn:
        raise AssertionError("only jobs draw here")

    async def no_watch(_order: Order, _every: int) -> AsyncIterator[Progress | Drawn]:
        raise AssertionError("only jobs draw here")
        yield

    async with running(house, watch, keep) as at:
        links = LinksFace(keep, read, PublicAddress())
        drawings = Drawings(no_draw, no_watch, links, server.pinning, server.metrics, server.timelines, 0.05)
        kept = JobOrders(at.desk, drawings, links.address)
        orders = Orders(server.pinning, RequestRules(), drawings, lambda: "a request", server.admission, kept.answer)
        apart = replace(orders, admission=Admission(4, lambda _: None))
        uploads = Uploads()
        jobs = JobsFace(apart, kept, uploads, heartbeat_s=0.05, clock=house.clock)
        faces: list[Face] = [ImagesFace(server.pinning, orders, uploads), EditsFace(orders, uploads), jobs, links]
        app = create_app(faces, server.metrics, 3, keyring)
        config = uvicorn.Config(
            app, host="127.0.0.1", port=0, ws="websockets-sansio", lifespan="off", log_level="warning"
        )
        listening = Quiet(config)
        serving = asyncio.create_task(listening.serve())
        while not listening.started:
            await asyncio.sleep(0.005)
        url = f"http://127.0.0.1:{listening.servers[0].sockets[0].getsockname()[1]}"
        try:
            async with httpx.AsyncClient(base_url=url, timeout=60) as client:
                yield Served(at, server, url, client, app)
        finally:
            listening.should_exit = listening.force_exit = True
            await serving


@pytest.fixture
def house(tmp_path: Path, live: LiveModel) -> Iterator[House]:
    made = House(tmp_path, live)
    yield made
    made.close()


def pixels(b64: str) -> tuple[int, ...]:
    colour = Image.open(io.BytesIO(base64.b64decode(b64))).convert("RGB").getpixel((0, 0))
    assert isinstance(colour, tuple)
    return colour


def test_a_job_is_accepted_drawn_and_answers_as_a_generation(server: Server, house: House) -> None:
    async def scenario() -> None:
        async with served(server, house) as one:
            response = await one.client.post(JOBS, json={"prompt": "a", "seed": 7, "n": 2, "quality": "low"})
            accepted = response.json()
            id_ = accepted["id"]
            assert response.status_code == 202
            assert response.headers["location"] == accepted["url"] == f"{one.url}{JOBS}/{id_}"
            assert (accepted["object"], accepted["kind"], accepted["seed"]) == ("job", "image_generation", 7)
            job = await one.comes_to(id_, "completed")
            result = job["result"]
            assert [one["seed"] for one in result["data"]] == [7, 8]
            assert pixels(result["data"][1]["b64_json"]) == (8, 8, 8)
            assert (result["model"], result["quality"], result["size"]) == ("toy", "low", "64x64")
            assert result["usage"]["total_tokens"] > 0
            assert {kind: pin["version"] for kind, pin in result["components"].items()}["vae_decoder"] == 1
            assert (job["error"], job["position"], job["progress"], job["webhook"]) == (None, None, [], None)
            assert job["expires"] == job["ended"] + 86_400

    asyncio.run(scenario())


def test_links_are_those_of_a_generation(server: Server, house: House) -> None:
    async def scenario() -> None:
        async with served(server, house) as one:
            id_ = (await one.submit(seed=7, response_format="url", output_format="webp"))["id"]
            [image] = (await one.comes_to(id_, "completed"))["result"]["data"]
            assert image["b64_json"] is None
            shown = await one.client.get(image["url"])
            assert shown.headers["content-type"] == "image/webp"

    asyncio.run(scenario())


def test_a_job_shows_its_place_its_steps_and_its_preview(server: Server, house: House) -> None:
    async def scenario() -> None:
        graph = Graph()
        async with served(server, with_settings(house, at_once=1), graph.watch) as one:
            first = await one.submit(steps=4, partial_images=1)
            await one.comes_to(first["id"], "generating")
            waiting = [await one.submit(seed=seed) for seed in range(2)]
            assert [job["position"] for job in waiting] == [1, 2]
            graph.let(3)
            while (job := (await one.client.get(first["url"])).json())["progress"] != [
                {"image_index": 0, "step": 3, "steps": 4}
            ]:
                await asyncio.sleep(0.005)
            assert job["preview"]["step"] == 2
            shown = Image.open(io.BytesIO(base64.b64decode(job["preview"]["b64_json"])))
            assert shown.size == (64, 64)
            assert (shown.getpixel((8, 8)), shown.getpixel((56, 8))) == ((255, 0, 0), (0, 0, 0))
            house.clock.now += 9
            timings = (await one.client.get(first["url"])).json()["timings"]
            assert timings == {"queued_s": 0.0, "generating_s": 9.0}

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"stream": True}, "stream"),
        ({"progress": True}, "progress"),
        ({"on_disconnect": "cancel"}, "on_disconnect"),
        ({"n": 11}, "n"),
        ({"partial_images": 4}, "partial_images"),
        ({"size": "7x7"}, "size"),
        ({"webhok": {}}, "webhok"),
        ({"webhook": {}}, "webhook.url"),
        ({"webhook": {"url": "http://hooks.example/"}}, "webhook.url"),
        ({"webhook": {"url": "https://169.254.169.254/latest"}}, "webhook.url"),
        ({"webhook": {"url": "https://[::1]/"}}, "webhook.url"),
        ({"webhook": {"url": "https://hooks.example/", "secret": "canary-12"}}, "webhook.secret"),
    ],
)
def test_a_wrong_field_is_refused_before_anything_is_kept(
    body: dict[str, Any], param: str, server: Server, house: House
) -> None:
    async def scenario() -> None:
        async with served(server, house) as one:
            response = await one.client.post(JOBS, json={"prompt": "a", **body})
            assert error_of(response, 422)["param"] == param
            assert "canary" not in response.text
            assert (await one.client.get(JOBS)).json()["data"] == []

    asyncio.run(scenario())


def test_other_bodies_and_answers_are_refused(server: Server, house: House) -> None:
    async def scenario() -> None:
        async with served(server, house) as one:
            error_of(await one.client.post(JOBS, content="{", headers={"content-type": "application/json"}), 400)
            error_of(await one.client.post(JOBS, content="{}", headers={"content-type": "text/plain"}), 415)
            error_of(await one.client.post(JOBS, json={"prompt": "a"}, headers={"accept": "image/png"}), 406)
            assert error_of(await one.client.post(JOBS, json={"prompt": "a", "model": "no"}), 404)["param"] == "model"

    asyncio.run(scenario())


def test_a_job_is_cancelled_once_and_others_are_not(server: Server, house: House) -> None:
    async def scenario() -> None:
        graph = Graph()
        async with served(server, with_settings(house, at_once=1, keep_s=60), graph.watch) as one:
            first, second = await one.submit(), await one.submit()
            await one.comes_to(first["id"], "generating")
            cancelled = await one.client.delete(second["url"])
            assert (cancelled.status_code, cancelled.json()["status"]) == (200, "cancelled")
            assert (await one.client.delete(second["url"])).json()["status"] == "cancelled"
            graph.let(99)
            await one.comes_to(first["id"], "completed")
            assert error_of(await one.client.delete(first["url"]), 409)["code"] == "job_ended"
            for ask in (one.client.get, one.client.delete):
                assert error_of(await ask(f"{JOBS}/job-unknown"), 404)["code"] == "job_not_found"
                assert error_of(await ask(f"{JOBS}/{'x' * 500}"), 404)["code"] == "job_not_found"
            house.clock.now += 60
            one.at.store.sweep()
            for ask in (one.client.get, one.client.delete):
                assert error_of(await ask(first["url"]), 410)["code"] == "job_expired"
            error_of(await one.client.get(f"{first['url']}/events"), 410)

    asyncio.run(scenario())


def test_pages_of_jobs(server: Server, house: House) -> None:
    async def scenario() -> None:
        async with served(server, house) as one:
            mine = [(await one.submit(seed=seed))["id"] for seed in range(5)]
            for id_ in mine:
                await one.comes_to(id_, "completed")
            page = (await one.client.get(JOBS, params={"limit": 3})).json()
            assert (page["object"], page["has_more"]) == ("list", True)
            assert [job["id"] for job in page["data"]] == mine[:1:-1]
            assert (page["first_id"], page["last_id"]) == (mine[4], mine[2])
            assert "result" not in page["data"][0]
            rest = (await one.client.get(JOBS, params={"after": page["last_id"], "status": "completed"})).json()
            assert ([job["id"] for job in rest["data"]], rest["has_more"]) == (mine[1::-1], False)
            assert (await one.client.get(JOBS, params={"status": "failed"})).json()["data"] == []
            for query in ({"limit": "0"}, {"limit": "101"}, {"limit": "1e1"}, {"status": "done"}, {"before": "x"}):
                error_of(await one.client.get(JOBS, params=query), 422)
            error_of(await one.client.get(JOBS, params={"after": "job-unknown"}), 404)

    asyncio.run(scenario())


def test_an_idempotency_key_gives_the_same_job(server: Server, house: House) -> None:
    async def scenario() -> None:
        async with served(server, house) as one:

            async def post(key: str, path: str = JOBS, **body: Any) -> httpx.Response:
                return await one.client.post(path, json={"prompt": "a", **body}, headers={"idempotency-key": key})

            first = (await post("k")).json()
            again = await asyncio.gather(*(post("k") for _ in range(5)))
            assert {response.status_code for response in again} == {202}
            assert {(response.json()["id"], response.json()["seed"]) for response in again} == {
                (first["id"], first["seed"])
            }
            # null is what a field is that is left out
            assert (await post("k", n=None)).json()["id"] == first["id"]
            conflict = error_of(await post("k", n=2), 409)
            assert (conflict["code"], conflict["param"]) == ("idempotency_conflict", "idempotency-key")
            assert (await post("other")).json()["id"] != first["id"]
            for key in ("", "k" * 256):
                assert error_of(await post(key), 422)["param"] == "idempotency-key"
            await one.comes_to(first["id"], "completed")
            assert (await post("k")).json()["status"] == "completed"
            assert len((await one.client.get(JOBS)).json()["data"]) == 2

    asyncio.run(scenario())


def keyring(**limits: float) -> Keyring:
    made = [("ann", ANN, limits), ("ben", BEN, {})]
    return Keyring(
        [
            KeyRecord(name, digest_of(key.encode()), frozenset(["images"]), KeyLimits.model_validate(own))
            for name, key, own in made
        ]
    )


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def test_a_job_is_its_keys_alone(server: Server, house: House) -> None:
    async def scenario() -> None:
        async with served(server, house, keyring=keyring()) as one:
            ann, ben = bearer(ANN), bearer(BEN)
            made = await one.client.post(JOBS, json={"prompt": "a", "user": "me"}, headers=ann)
            url = made.json()["url"]
            for path in (url, f"{url}/events", f"{url}?user=me"):
                assert (await one.client.get(path, headers=ann)).status_code == 200
                error_of(await one.client.get(path, headers=ben), 404)
                error_of(await one.client.get(path), 401)
            error_of(await one.client.delete(f"{url}?user=ann", headers=ben), 404)
            assert len((await one.client.get(JOBS, headers=ann)).json()["data"]) == 1
            assert (await one.client.get(JOBS, headers=ben, params={"user": "ann"})).json()["data"] == []
            error_of(await one.client.get(JOBS, headers=ben, params={"after": made.json()["id"]}), 404)
            socket = url.replace("http", "ws") + "/ws"
            async with websockets.connect(socket, additional_headers=ann) as line:
                assert json.loads([message async for message in line][-1])["type"] == "job.completed"
            async with websockets.connect(socket, additional_headers=ben) as line:
                assert json.loads(await line.recv())["error"]["code"] == "job_not_found"
            with pytest.raises(websockets.InvalidStatus) as refused:
                await websockets.connect(socket)
            assert refused.value.response.status_code == 403

    asyncio.run(scenario())


def test_without_keys_a_job_is_the_users_that_it_names(server: Server, house: House) -> None:
    async def scenario() -> None:
        async with served(server, house) as one:
            url = (await one.submit(user="me"))["url"]
            assert (await one.client.get(url, params={"user": "me"})).status_code == 200
            for query in ({}, {"user": "you"}):
                error_of(await one.client.get(url, params=query), 404)
                assert (await one.client.get(JOBS, params=query)).json()["data"] == []
            assert len((await one.client.get(JOBS, params={"user": "me"})).json()["data"]) == 1

    asyncio.run(scenario())


def test_a_keys_limits_hold_for_jobs(server: Server, house: House) -> None:
    async def scenario() -> None:
        graph = Graph()
        limits = {"pictures_per_minute": 6.0, "burst": 4.0, "concurrent_pictures": 2.0}
        async with served(server, house, graph.watch, keyring(**limits)) as one:

            async def post(**body: Any) -> httpx.Response:
                headers = {**bearer(ANN), "idempotency-key": str(body)}
                return await one.client.post(JOBS, json={"prompt": "a", **body}, headers=headers)

            error_of(await post(n=3), 403)
            made = [await post(n=2, seed=seed) for seed in range(3)]
            assert [response.status_code for response in made] == [202, 202, 429]
            assert (await post(n=2, seed=0)).status_code == 202, "the same job takes nothing of the rate"
            await asyncio.sleep(0.1)
            jobs = (await one.client.get(JOBS, headers=bearer(ANN))).json()["data"]
            assert [job["status"] for job in jobs] == ["queued", "generating"]

    asyncio.run(scenario())


def test_a_full_server_still_takes_jobs(server: Server, house: House) -> None:
    async def scenario() -> None:
        async with served(server, with_settings(house, most_queued=1, at_once=1), Graph().watch) as one:
            server.admission.draining = True
            first = await one.submit()
            await one.comes_to(first["id"], "generating")
            await one.submit()
            full = await one.client.post(JOBS, json={"prompt": "a"})
            assert error_of(full, 429)["code"] == "too_many_jobs"
            assert full.headers["retry-after"] == "3"

    asyncio.run(scenario())


def events_of(text: str) -> list[tuple[str, str | None, Any]]:
    """Server-sent events, read by the rules of the HTML standard."""
    found = []
    for block in text.replace("\r\n", "\n").split("\n\n"):
        fields = [line.partition(":") for line in block.split("\n") if line and not line.startswith(":")]
        named = {name: value.removeprefix(" ") for name, _, value in fields}
        if "data" in named:
            found.append((named["event"], named.get("id"), json.loads(named["data"])))
    return found


def test_events_tell_of_steps_previews_and_pictures(server: Server, house: House) -> None:
    async def scenario() -> None:
        graph = Graph()
        async with served(server, house, graph.watch) as one:
            job = await one.submit(steps=3, seed=9, partial_images=1)
            await one.comes_to(job["id"], "generating")
            asking = asyncio.create_task(one.client.get(f"{job['url']}/events"))
            for _ in range(5):
                await asyncio.sleep(0.08)
                graph.let(1)
            response = await asking
            assert response.headers["content-type"].startswith("text/event-stream")
            assert ": still drawing" in response.text
            told = events_of(response.text)
            assert [type_ for type_, _, _ in told] == [
                "job.generating",
                "job.generating",
                "image_generation.progress",
                "image_generation.partial_image",
                "image_generation.progress",
                "image_generation.progress",
                "image_generation.completed",
                "job.completed",
            ][-len(told) :]
            assert all(data["type"] == type_ for type_, _, data in told)
            steps = [data["step"] for type_, _, data in told if type_.endswith("progress")]
            assert steps == [1, 2, 3]
            [completed] = [data for type_, _, data in told if type_ == "image_generation.completed"]
            assert (completed["seed"], pixels(completed["b64_json"])) == (9, (9, 9, 9))
            assert told[-1][1:] == ("end", told[-1][2])
            assert told[-1][2]["job"]["status"] == "completed"
            # a browser that lost its line comes back with the id that it saw last
            middle = next(id_ for type_, id_, _ in told if type_.endswith("partial_image"))
            rest = await one.client.get(f"{job['url']}/events", headers={"last-event-id": middle or ""})
            assert [type_ for type_, _, _ in events_of(rest.text)] == ["image_generation.completed", "job.completed"]
            over = await one.client.get(f"{job['url']}/events", headers={"last-event-id": "end"})
            assert (over.status_code, over.content) == (204, b"")

    asyncio.run(scenario())


def test_a_websocket_has_the_same_messages(server: Server, house: House) -> None:
    async def scenario() -> None:
        graph = Graph()
        async with served(server, house, graph.watch) as one:
            job = await one.submit(steps=3, partial_images=1)
            await one.comes_to(job["id"], "generating")
            at = job["url"].replace("http", "ws") + "/ws"
            async with websockets.connect(at) as line:
                first = json.loads(await line.recv())
                assert first["job"]["url"] == job["url"]
                await line.send("whatever is said is not read")
                graph.let(9)
                told = [json.loads(message) async for message in line]
                assert line.close_code == 1000
            kinds = [message["type"] for message in told]
            assert kinds[-2:] == ["image_generation.completed", "job.completed"]
            assert told[-1]["event_id"] == "end"
            events = events_of((await one.client.get(f"{job['url']}/events")).text)
            assert [{**data, "event_id": id_} for _, id_, data in events] == told[-2:]
            async with websockets.connect(f"{at}?nothing=1") as line:
                assert json.loads(await line.recv())["error"]["code"] == "invalid_value"
                await line.wait_closed()
                assert line.close_code == 1008

    asyncio.run(scenario())


def test_who_leaves_a_websocket_is_followed_no_more(server: Server, house: House) -> None:
    async def scenario() -> None:
        graph = Graph()
        async with served(server, house, graph.watch) as one:
            job = await one.submit(steps=3)

            def following() -> int:
                return sum("Paced" in repr(task) for task in asyncio.all_tasks())

            async with websockets.connect(job["url"].replace("http", "ws") + "/ws") as line:
                await line.recv()
                assert following() == 1
            while following():
                await asyncio.sleep(0.01)
            assert graph.stopped == 0
            graph.let(9)
            await one.comes_to(job["id"], "completed")

    asyncio.run(scenario())


def test_a_request_that_is_kept_goes_on_without_its_caller(server: Server, house: House) -> None:
    async def scenario() -> None:
        graph = Graph()
        async with served(server, house, graph.watch) as one:
            body = {"prompt": "a", "seed": 4, "steps": 3, "on_disconnect": "keep"}
            headers = {"idempotency-key": "mine"}
            # Serve ends the work on a request whose client went away; a server without it does so for this client alone
            async with httpx.AsyncClient(transport=httpx.ASGITransport(one.app), base_url=one.url) as leaving:
                asking = asyncio.create_task(leaving.post(GENERATIONS, json=body, headers=headers))
                while not graph.under_way:
                    await asyncio.sleep(0.005)
                asking.cancel()
                await asyncio.gather(asking, return_exceptions=True)
            assert (server.admission.images, graph.under_way, graph.stopped) == (0, 1, 0)
            again = asyncio.create_task(one.client.post(GENERATIONS, json=body, headers=headers))
            await asyncio.sleep(0.05)
            graph.let(9)
            answer = await again
            assert answer.status_code == 200, answer.text
            assert answer.headers["x-seed"] == "4"
            [job] = (await one.client.get(JOBS)).json()["data"]
            assert (job["id"], job["status"]) == (answer.headers["x-job-id"], "completed")
            assert pixels(answer.json()["data"][0]["b64_json"]) == (4, 4, 4)
            assert len(one.at.orders) == 1

    asyncio.run(scenario())


def test_a_kept_request_answers_as_any_other(server: Server, house: House) -> None:
    async def scenario() -> None:
        async with served(server, house) as one:
            body = {"prompt": "a", "seed": 4, "on_disconnect": "keep"}
            raw = await one.client.post(GENERATIONS, json=body, headers={"accept": "image/webp"})
            assert raw.headers["content-type"] == "image/webp"
            linked = (await one.client.post(GENERATIONS, json={**body, "response_format": "url"})).json()
            assert (await one.client.get(linked["data"][0]["url"])).headers["content-type"] == "image/png"
            client = openai.AsyncOpenAI(base_url=f"{one.url}/v1", api_key="none", max_retries=0)
            stream = await client.images.generate(
                prompt="a", stream=True, partial_images=1, extra_body={"seed": 4, "steps": 4, "on_disconnect": "keep"}
            )
            events = [event async for event in stream]
            await client.close()
            assert [event.type for event in events][-1] == "image_generation.completed"
            assert len(events) <= 2

    asyncio.run(scenario())


def test_a_kept_stream_tells_of_no_step_twice(server: Server, house: House) -> None:
    """A feed tells the newest: on a busy machine a step may be missed, but none comes again or too late."""

    async def scenario() -> None:
        graph = Graph()
        async with served(server, house, graph.watch) as one:
            body = {"prompt": "a", "stream": True, "progress": True, "partial_images": 1, "steps": 4}
            asking = asyncio.create_task(one.client.post(GENERATIONS, json={**body, "on_disconnect": "keep"}))
            for _ in range(6):
                await asyncio.sleep(0.05)
                graph.let(1)
            told = [(type_.split(".")[1], data.get("step")) for type_, _, data in events_of((await asking).text)]
            every = [("progress", 1), ("progress", 2), ("partial_image", None), ("progress", 3), ("progress", 4)]
            assert told[-1] == ("completed", None)
            assert told[:-1] == [one for one in every if one in told]
            assert len(told) > 1

    asyncio.run(scenario())


def test_a_kept_request_that_fails_has_the_error_of_its_job(server: Server, house: House) -> None:
    async def scenario() -> None:
        async with served(server, house, failing(RuntimeError("canary"))) as one:
            body = {"prompt": "a", "on_disconnect": "keep"}
            error = error_of(await one.client.post(GENERATIONS, json=body), 500)
            assert (error["type"], error["code"]) == ("server_error", "internal_error")
            [job] = (await one.client.get(JOBS)).json()["data"]
            assert job["error"] == error

    asyncio.run(scenario())


def test_an_edit_may_be_kept_too(server: Server, house: House) -> None:
    async def scenario() -> None:
        async with served(server, house) as one:
            picture = io.BytesIO()
            Image.new("RGB", (64, 64), (200, 10, 10)).save(picture, "PNG")
            form = {"prompt": "a", "size": "64x64", "on_disconnect": "keep"}

            async def post(key: str, data: bytes) -> httpx.Response:
                files = {"image": ("a.png", data, "image/png")}
                headers = {"idempotency-key": key}
                return await one.client.post("/v1/images/edits", data=form, files=files, headers=headers)

            assert (await post("k", picture.getvalue())).status_code == 200
            [order] = one.at.orders
            assert order.source is not None
            assert order.source.pixels[0, 0, 0].tolist() == [200, 10, 10]
            other = io.BytesIO()
            Image.new("RGB", (64, 64), (0, 10, 10)).save(other, "PNG")
            error_of(await post("k", other.getvalue()), 409)

    asyncio.run(scenario())


def test_the_document_describes_jobs(server: Server, house: House) -> None:
    async def scenario() -> None:
        async with served(server, house) as one:
            schema = (await one.client.get("/openapi.json")).json()
            assert set(schema["paths"][JOBS]) == {"get", "post"}
            assert set(schema["paths"][f"{JOBS}/{{id}}"]) == {"get", "delete"}
            named = json.dumps(schema["paths"]).split('"#/components/schemas/')[1:]
            assert {one.split('"')[0] for one in named} <= set(schema["components"]["schemas"])
            assert "webhook" in schema["components"]["schemas"]["JobBody"]["properties"]

    asyncio.run(scenario())


def test_answers_hold_no_prompt(server: Server, house: House) -> None:

    async def scenario() -> None:
        async with served(server, house) as one:
            job = await one.submit(prompt="canary-55", webhook={"url": "https://hooks.invalid/", "secret": SECRET})
            shown = await one.client.get(job["url"])
            listed = await one.client.get(JOBS)
            for text in (shown.text, listed.text):
                assert "canary-55" not in text
                assert "hooks.invalid" not in text
                assert SECRET not in text

    asyncio.run(scenario())
