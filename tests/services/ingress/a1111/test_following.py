"""Progress, interrupt and skip, while something is drawn."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import httpx
import numpy as np
import pytest
import webuiapi

from components.contract import Kind
from services.messages import Order, Progress
from tests.services.ingress.a1111.conftest import API, get, opened, post, refused
from tests.services.ingress.access.test_tenants import ANN, BEN, with_keys
from tests.services.ingress.conftest import draw_at_once, listening

Server = Any
MOST_SECONDS = 30


class Held:
    """Draws half of every batch's steps, and waits there until it may go on."""

    def __init__(self, server: Server) -> None:
        self.reached = threading.Event()
        self.go_on = threading.Event()
        self.left: list[Order] = []
        server.watch = self.watch

    async def watch(self, order: Order, every: int) -> Any:
        preview = np.zeros((8, 8, 3), np.uint8)
        preview[:, :4, 0] = 255
        half = order.request.steps // 2
        for image in range(order.request.n):
            yield Progress(image, half, order.request.steps, preview if every else None)
        try:
            self.reached.set()
            while not self.go_on.is_set():
                await asyncio.sleep(0.005)
        except BaseException:
            self.left.append(order)
            raise
        yield await draw_at_once(order)


@contextmanager
def drawing(api: Any, held: Held, **body: Any) -> Iterator[list[Any]]:
    """A request under way in a thread; the list has its result at the end."""
    results: list[Any] = []
    asked = {"prompt": "a red apple", "steps": 10, "width": 64, "height": 64, "seed": 7, **body}
    thread = threading.Thread(target=lambda: results.append(api.txt2img(**asked)))
    thread.start()
    try:
        assert held.reached.wait(MOST_SECONDS)
        yield results
    finally:
        held.go_on.set()
        thread.join()


@pytest.fixture
def held(server: Server) -> Held:
    return Held(server)


def comes_true(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + MOST_SECONDS
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.01)
    return False


def test_nothing_under_way_is_no_progress(api: Any) -> None:
    told = api.get_progress()
    assert (told["progress"], told["eta_relative"], told["current_image"], told["textinfo"]) == (0, 0, None, None)
    assert told["state"]["job_count"] == 0
    # the client's own wait comes back at once
    api.util_wait_for_ready(check_interval=0)


def test_progress_tells_how_far_it_is_and_shows_it(api: Any, held: Held) -> None:
    with drawing(api, held, n_iter=2, batch_size=2) as results:
        told = api.get_progress()
        without = api.custom_get("progress?skip_current_image=true", baseurl=True)
    assert told["progress"] == pytest.approx(0.25)
    assert told["eta_relative"] > 0
    state = told["state"]
    assert (state["job_no"], state["job_count"], state["sampling_step"], state["sampling_steps"]) == (0, 2, 5, 10)
    assert (state["interrupted"], state["skipped"]) == (False, False)
    assert len(state["job_timestamp"]) == 14
    preview = opened(told["current_image"])
    assert preview.size == (64, 64)
    left, right = (np.asarray(preview)[:, column].mean(0) for column in (8, 56))
    assert left[0] - right[0] > 200
    assert without["current_image"] is None
    [result] = results
    assert len(result.images) == 4


def test_the_time_left_is_that_passed_in_proportion(api: Any, held: Held) -> None:
    began = time.time()
    with drawing(api, held, n_iter=2) as results:
        told = [api.get_progress() for _ in range(3)]
        passed = time.time() - began
    assert [one["progress"] for one in told] == [0.25] * 3
    left = [one["eta_relative"] for one in told]
    # a quarter took the time so far, and it stands still
    assert 0 < left[0] < left[1] < left[2] <= 3 * passed
    assert len(results) == 1


def test_an_interrupted_request_answers_with_the_batches_that_it_has(server: Server, api: Any, held: Held) -> None:
    def first_then_wait(order: Order, every: int) -> Any:
        return held.watch(order, every) if len(server.orders) > 1 else _at_once(order)

    server.watch = first_then_wait
    with drawing(api, held, n_iter=3) as results:
        assert api.get_progress()["state"]["job_no"] == 1
        assert api.interrupt() == {}
        assert comes_true(lambda: bool(results))
    [result] = results
    assert [one.getpixel((0, 0)) for one in result.images] == [(7, 7, 7)]
    assert (result.info["all_seeds"], result.info["seed"]) == ([7], 7)
    assert [order.request.seed for order in held.left] == [8]
    assert len(server.orders) == 2
    assert server.admission.images == 0
    assert api.get_progress()["progress"] == 0


async def _at_once(order: Order) -> Any:
    yield await draw_at_once(order)


def test_a_skipped_batch_is_left_out_and_the_next_one_is_drawn(server: Server, api: Any, held: Held) -> None:
    def wait_then_rest(order: Order, every: int) -> Any:
        return _at_once(order) if len(server.orders) > 1 else held.watch(order, every)

    server.watch = wait_then_rest
    with drawing(api, held, n_iter=3) as results:
        assert api.skip() == {}
        assert comes_true(lambda: bool(results))
    assert results[0].info["all_seeds"] == [8, 9]
    assert [order.request.seed for order in held.left] == [7]


def test_an_interrupted_first_batch_leaves_no_picture_and_no_error(api: Any, held: Held) -> None:
    with drawing(api, held) as results:
        api.interrupt()
        assert comes_true(lambda: bool(results))
    assert results[0].images == []
    assert results[0].info["seed"] == 7


def test_a_task_goes_by_its_id(url: str, held: Held) -> None:
    body = {"prompt": "a", "steps": 10, "width": 64, "height": 64}
    with httpx.Client(base_url=url, timeout=MOST_SECONDS) as client:
        answers: dict[str, Any] = {}

        def ask(name: str) -> None:
            answers[name] = client.post("/txt2img", json={**body, "force_task_id": name}).json()

        threads = {name: threading.Thread(target=ask, args=(name,)) for name in ("first", "second")}

        def begun(name: str) -> bool:
            told = client.get("/progress", params={"id_task": name}).json()
            return bool(told["progress"] > 0)

        for name, thread in threads.items():
            thread.start()
            assert comes_true(partial(begun, name))
        twice = client.post("/txt2img", json={**body, "force_task_id": "second"})
        assert client.post("/interrupt", params={"id_task": "second"}).json() == {}
        threads["second"].join()
        assert client.get("/progress").json()["state"]["job"] == "first"
        assert client.get("/progress", params={"id_task": "second"}).json()["progress"] == 0
        for path in ("/interrupt", "/skip"):
            refused(client.post(path, params={"id_task": "second"}), 404)
        held.go_on.set()
        threads["first"].join()
    assert "force_task_id" in refused(twice, 422)["detail"]
    assert (len(answers["first"]["images"]), len(answers["second"]["images"])) == (1, 0)


def test_nobody_sees_or_ends_what_is_anothers(server: Server, held: Held) -> None:
    with_keys(server)
    with listening(server) as address:
        clients = [
            httpx.Client(base_url=f"{address}{API}", auth=("anybody", key), timeout=MOST_SECONDS) for key in (ANN, BEN)
        ]
        ann, ben = clients
        body = {"prompt": "a", "steps": 10, "width": 64, "height": 64, "force_task_id": "mine"}
        answers: list[Any] = []
        thread = threading.Thread(target=lambda: answers.append(ann.post("/txt2img", json=body).json()))
        thread.start()
        assert held.reached.wait(MOST_SECONDS)
        assert ben.get("/progress").json()["state"]["job_count"] == 0
        assert ben.get("/progress", params={"id_task": "mine"}).json()["progress"] == 0
        refused(ben.post("/interrupt", params={"id_task": "mine"}), 404)
        assert ben.post("/interrupt").json() == {}
        assert ben.post("/skip").json() == {}
        assert ann.get("/progress").json()["progress"] == 0.5
        held.go_on.set()
        thread.join()
        for client in clients:
            client.close()
    assert len(answers[0]["images"]) == 1


def test_a_caller_that_leaves_takes_its_drawing_along(server: Server, held: Held) -> None:
    async def scenario() -> None:
        asking = asyncio.create_task(
            server.arequest("POST", f"{API}/txt2img", json={"prompt": "a", "width": 64, "height": 64})
        )
        while not held.reached.is_set():
            await asyncio.sleep(0.005)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await asyncio.sleep(0)

    asyncio.run(scenario())
    assert len(held.left) == 1
    assert server.admission.images == 0
    assert get(server, "progress").json()["state"]["job_count"] == 0


@pytest.mark.parametrize("query", [{"skip_current_image": "perhaps"}, {"task": "x"}])
def test_a_query_that_says_nothing_is_refused(server: Server, query: dict[str, str]) -> None:
    refused(get(server, "progress", **query), 422)


def test_an_id_has_a_limit(server: Server) -> None:
    refused(post(server, "txt2img", prompt="a", force_task_id="x" * 129), 422)


def test_a_denoiser_without_previews_shows_none(server: Server, api: Any, held: Held) -> None:
    asked: list[int] = []

    async def watch(order: Order, every: int) -> Any:
        asked.append(every)
        yield await draw_at_once(order)

    server.watch = watch
    api.txt2img(prompt="a", steps=10, width=64, height=64)

    record = server.pinning.record
    blind = record.live.contracts[Kind.DENOISER].model_copy(update={"preview": None})
    contracts = {**record.live.contracts, Kind.DENOISER: blind}
    server.pinning.record = replace(record, live=replace(record.live, contracts=contracts))
    api.txt2img(prompt="a", steps=10, width=64, height=64)
    assert asked[0] > 0
    assert asked[1] == 0
    assert not held.left


def test_without_keys_everybody_is_one_caller(held: Held, api: Any, url: str) -> None:
    with drawing(api, held):
        other = webuiapi.WebUIApi(baseurl=url)
        assert other.get_progress()["progress"] == 0.5
        other.session.close()
