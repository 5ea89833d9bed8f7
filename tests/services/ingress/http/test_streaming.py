"""Streams of events on the wire: what comes when, what an error becomes, and what a client that leaves stops."""

import asyncio
import base64
import io
import json
import threading
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from components.contract import Kind
from services.errors import DeadlineExceededError, OverloadedError, ServingError
from services.ingress.orders.events import preview_every
from services.messages import Drawn, Order, Progress
from tests.services.ingress.conftest import GENERATIONS, draw_at_once, error_of, listening

Server = Any
MOST_SECONDS = 60


def events_of(text: str) -> list[tuple[str, dict[str, Any]]]:
    """Type and data of each event, as the standard has it."""
    found = []
    for block in text.split("\n\n"):
        lines = [line.partition(": ") for line in block.split("\n") if line and not line.startswith(":")]
        if lines:
            assert [name for name, _, _ in lines] == ["event", "data"]
            found.append((lines[0][2], json.loads(lines[1][2])))
    return found


def streamed(server: Server, **body: Any) -> list[tuple[str, dict[str, Any]]]:
    response = server.generate(prompt="a red apple", stream=True, **body)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("text/event-stream")
    events = events_of(response.text)
    assert all(type_ in ("error", data["type"]) for type_, data in events if "type" in data)
    return events


def picture_of(data: dict[str, Any]) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(data["b64_json"])))


def test_previews_come_before_the_picture_in_its_size_and_format(server: Server) -> None:
    events = streamed(server, partial_images=3, steps=20, seed=7, output_format="webp", size="128x64")
    partial, completed = "image_generation.partial_image", "image_generation.completed"
    assert [type_ for type_, _ in events] == [partial] * 3 + [completed]
    assert [data["partial_image_index"] for _, data in events[:3]] == [0, 1, 2]
    for _, data in events:
        assert (data["size"], data["output_format"], data["background"]) == ("128x64", "webp", "opaque")
        assert (data["quality"], data["image_index"]) == ("auto", 0)
        assert abs(data["created_at"] - time.time()) < MOST_SECONDS
        assert (picture_of(data).format, picture_of(data).size) == ("WEBP", (128, 64))
    left, right = (np.asarray(picture_of(events[0][1]))[:, column].mean(0) for column in (10, 118))
    assert left[0] - right[0] > 200, "the left half of the preview is red"
    _, finished = events[-1]
    assert picture_of(finished).getpixel((0, 0)) == (7, 7, 7)
    assert (finished["seed"], finished["prompt_truncated"]) == (7, False)


def test_the_last_event_is_the_answer_without_a_stream(server: Server) -> None:
    whole = server.generate(prompt="a red apple", seed=3, n=2).json()
    events = [data for _, data in streamed(server, seed=3, n=2)]
    assert [data["image_index"] for data in events] == [0, 1]
    for data, one in zip(events, whole["data"], strict=True):
        assert {name: data[name] for name in ("b64_json", "seed", "subseed", "fallback", "latents")} == {
            name: one[name] for name in ("b64_json", "seed", "subseed", "fallback", "latents")
        }
        assert (data["quality"], data["size"]) == (whole["quality"], whole["size"])
    for count in ("input_tokens", "output_tokens", "total_tokens"):
        assert sum(data["usage"][count] for data in events) == whole["usage"][count]


def test_each_of_several_pictures_has_its_own_previews(server: Server) -> None:
    events = streamed(server, partial_images=2, steps=9, n=3)
    told = [(data["image_index"], data["partial_image_index"]) for _, data in events if "partial_image_index" in data]
    assert sorted(told) == [(image, index) for image in range(3) for index in range(2)]


def test_steps_are_told_where_that_is_asked_for(server: Server) -> None:
    events = streamed(server, progress=True, steps=4)
    assert [(type_, data.get("step"), data.get("steps")) for type_, data in events[:-1]] == [
        ("image_generation.progress", step, 4) for step in range(1, 5)
    ]
    assert [type_ for type_, _ in streamed(server, steps=4)] == ["image_generation.completed"]


@pytest.mark.parametrize("partial_images", [1, 2, 3])
def test_previews_are_spread_evenly_and_come_before_the_last_step(partial_images: int) -> None:
    for steps in range(1, 151):
        every = preview_every(steps, partial_images)
        due = [step for step in range(1, steps) if step % every == 0][:partial_images]
        assert len(due) == min(partial_images, steps - 1)
        ideal = [steps * (index + 1) / (partial_images + 1) for index in range(len(due))]
        # half a step away for each preview, as steps are whole
        assert all(abs(at - wanted) <= 1.5 for at, wanted in zip(due, ideal, strict=True)), (steps, due, ideal)


def test_a_stream_without_previews_asks_the_denoiser_for_none(server: Server) -> None:
    asked: list[int] = []

    async def watch(order: Order, every: int) -> AsyncIterator[Progress | Drawn]:
        asked.append(every)
        yield await draw_at_once(order)

    server.watch = watch
    streamed(server, partial_images=0)
    streamed(server, progress=True)
    streamed(server, partial_images=3, steps=8)
    assert asked == [0, 2]


def test_a_denoiser_without_previews_refuses_them_by_name(server: Server) -> None:
    live = server.pinning.record.live
    blind = live.contracts[Kind.DENOISER].model_copy(update={"preview": None})
    server.controller.versions["toy.denoiser/2"] = (live.pins[Kind.DENOISER], blind)
    body: dict[str, Any] = {"prompt": "a", "stream": True, "components": {"denoiser": "toy.denoiser/2"}}
    error = error_of(server.generate(**body, partial_images=1), 422)
    assert (error["param"], error["code"]) == ("partial_images", "invalid_value")
    assert server.generate(**body).status_code == 200
    assert server.admission.images == 0


def test_headers_that_are_known_at_the_start_come_with_a_stream(server: Server) -> None:
    headers = server.generate(prompt="a", stream=True, seed=5, subseed=9, subseed_strength=0.5).headers
    assert (headers["x-seed"], headers["x-subseed"]) == ("5", "9")
    assert "denoiser=toy.denoiser/1" in headers["x-component-versions"]
    assert (headers["cache-control"], headers["x-accel-buffering"]) == ("no-store", "no")


@pytest.mark.parametrize(
    ("accept", "status"),
    [
        ("*/*", 200),
        ("application/json", 200),
        ("text/event-stream", 200),
        ("text/event-stream, application/json;q=0.5", 200),
        ("image/png", 406),
        ("text/html", 406),
    ],
)
def test_what_a_stream_may_be_accepted_as(server: Server, accept: str, status: int) -> None:
    assert server.generate(accept, prompt="a", stream=True).status_code == status


def test_events_are_for_a_stream_alone(server: Server) -> None:
    error_of(server.generate("text/event-stream", prompt="a"), 406)


@pytest.mark.parametrize(
    ("raised", "status", "code"),
    [
        (OverloadedError("as much work waits as may wait", 17), 429, "overloaded"),
        (DeadlineExceededError("deadline_s=3: cannot be met", "deadline_s"), 504, "deadline_exceeded"),
        (KeyError("a secret"), 500, "internal_error"),
    ],
)
def test_an_error_before_the_first_event_keeps_its_status(
    server: Server, raised: Exception, status: int, code: str
) -> None:
    async def refuse(_order: Order, _every: int) -> AsyncIterator[Progress | Drawn]:
        await asyncio.sleep(0)
        raise raised
        yield

    server.watch = refuse
    response = server.generate(prompt="a", stream=True, partial_images=1)
    assert error_of(response, status)["code"] == code
    if status == 429:
        assert (response.headers["retry-after"], response.headers["retry-after-ms"]) == ("17", "17000")
    assert response.headers.get("x-should-retry") == ("false" if status == 504 else None)
    assert server.admission.images == 0


@pytest.mark.parametrize(
    ("raised", "error"),
    [
        (
            ServingError("denoiser: something went wrong"),
            {
                "message": "denoiser: something went wrong",
                "type": "server_error",
                "param": None,
                "code": "internal_error",
            },
        ),
        (
            DeadlineExceededError("deadline_s=3: has passed", "deadline_s"),
            {
                "message": "deadline_s=3: has passed",
                "type": "timeout_error",
                "param": "deadline_s",
                "code": "deadline_exceeded",
            },
        ),
        (
            KeyError("a secret"),
            {
                "message": "something went wrong on our side",
                "type": "server_error",
                "param": None,
                "code": "internal_error",
            },
        ),
    ],
)
def test_an_error_later_on_is_the_last_event(server: Server, raised: Exception, error: dict[str, Any]) -> None:
    async def fail(_order: Order, _every: int) -> AsyncIterator[Progress | Drawn]:
        yield Progress(0, 1, 25, None)
        raise raised

    server.watch = fail
    events = streamed(server, progress=True)
    assert [type_ for type_, _ in events] == ["image_generation.progress", "error"]
    assert events[-1][1] == {"error": error}
    assert server.admission.images == 0


def test_a_stream_that_ends_without_a_picture_says_so(server: Server) -> None:
    async def nothing(_order: Order, _every: int) -> AsyncIterator[Progress | Drawn]:
        yield Progress(0, 1, 25, None)

    server.watch = nothing
    assert streamed(server, progress=True)[-1][1]["error"]["code"] == "internal_error"


@pytest.mark.parametrize("told", [0, 1])
def test_a_walk_that_is_cancelled_elsewhere_ends_its_stream_with_an_error(server: Server, told: int) -> None:
    async def broken_off(_order: Order, _every: int) -> AsyncIterator[Progress | Drawn]:
        for step in range(told):
            yield Progress(0, step, 25, None)
        raise asyncio.CancelledError

    server.watch = broken_off
    if told:
        assert streamed(server, progress=True)[-1][1]["error"]["code"] == "unavailable"
    else:
        error_of(server.generate(prompt="a", stream=True, progress=True), 503)
    assert server.admission.images == 0


def test_how_a_stream_ended_is_counted(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[bool] = []
    monkeypatch.setattr(server.pinning, "ended", lambda outcomes: ended.extend(one.error for one in outcomes[:1]))
    pictures: list[int] = []
    monkeypatch.setattr(server.metrics.images, "inc", lambda count, **_: pictures.append(count))
    streamed(server, n=2)

    async def fail(_order: Order) -> Drawn:
        raise ServingError("broken")

    server.draw = fail
    error_of(server.generate(prompt="a", stream=True), 500)
    assert (ended, pictures) == ([False, True], [2])


def wait_for(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + MOST_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def test_a_quiet_line_is_kept_by_comments(server: Server) -> None:
    free = threading.Event()

    async def slowly(order: Order) -> Drawn:
        await asyncio.to_thread(free.wait)
        return await draw_at_once(order)

    server.draw = slowly
    with listening(server) as url:
        body = {"prompt": "a", "stream": True}
        with httpx.stream("POST", url + GENERATIONS, json=body, timeout=MOST_SECONDS) as response:
            lines = response.iter_lines()
            assert response.status_code == 200
            quiet = [next(lines) for _ in range(4)]
            free.set()
            rest = list(lines)
    assert quiet == [": still drawing", ""] * 2
    assert [line for line in rest if line.startswith("event")] == ["event: image_generation.completed"]


@pytest.mark.parametrize("tells", [True, False])
def test_a_client_that_leaves_ends_the_walk(server: Server, tells: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    left = threading.Event()
    counted: list[str] = []
    monkeypatch.setattr(server.metrics.requests, "inc", lambda tags: counted.append(tags["status"]))

    async def endless(_order: Order, _every: int) -> AsyncIterator[Progress | Drawn]:
        try:
            for step in range(10**9):
                if tells or not step:
                    yield Progress(0, step, 10**9, None)
                await asyncio.sleep(0.01)
        finally:
            left.set()

    server.watch = endless
    with listening(server) as url:
        body = {"prompt": "a", "stream": True, "progress": True}
        with httpx.stream("POST", url + GENERATIONS, json=body, timeout=MOST_SECONDS) as response:
            # an iterator that nobody holds closes the connection
            lines = response.iter_lines()
            assert next(lines) == "event: image_generation.progress"
            assert server.admission.images == 1
        assert left.wait(MOST_SECONDS)
        assert wait_for(lambda: server.admission.images == 0)
        assert wait_for(lambda: counted == ["499"])


def test_a_client_that_leaves_while_nothing_has_come_ends_the_walk(server: Server) -> None:
    begun, left = threading.Event(), threading.Event()

    async def stuck(_order: Order) -> Drawn:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            left.set()
        raise AssertionError

    server.draw = stuck
    with listening(server) as url:
        with httpx.stream("POST", url + GENERATIONS, json={"prompt": "a", "stream": True}, timeout=MOST_SECONDS):
            assert begun.wait(MOST_SECONDS)
        assert left.wait(MOST_SECONDS)
        assert wait_for(lambda: server.admission.images == 0)


def test_a_request_that_is_cancelled_before_its_first_event_lets_go_of_everything(server: Server) -> None:
    async def scenario() -> None:
        begun, left = asyncio.Event(), asyncio.Event()

        async def stuck(_order: Order, _every: int) -> AsyncIterator[Progress | Drawn]:
            begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                left.set()
            yield Progress(0, 1, 1, None)

        server.watch = stuck
        body = json.dumps({"prompt": "a", "stream": True, "progress": True})
        headers = {"content-type": "application/json"}
        request = asyncio.create_task(server.arequest("POST", GENERATIONS, content=body, headers=headers))
        await begun.wait()
        request.cancel()
        async with asyncio.timeout(MOST_SECONDS):
            await left.wait()
        assert server.admission.images == 0

    asyncio.run(scenario())
