"""What is sent again, after how long, and what never is."""

import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from services.client.errors import ClientError, ServerRefused, TimedOut, Unreachable
from services.client.retries import Attempts, Repeat, Retries
from services.errors import GivenUpError, OverloadedError, ServingError, UnavailableError
from services.messages import Drawn, Order
from tests.services.client.conftest import Caller
from tests.services.ingress.conftest import RETRY_AFTER_S, Server, draw_at_once
from tests.services.server import free_port


def fails_first(server: Server, *errors: ServingError) -> None:
    waiting = list(errors)

    async def draw(order: Order) -> Drawn:
        if waiting:
            raise waiting.pop(0)
        return await draw_at_once(order)

    server.draw = draw


@pytest.mark.parametrize("method", ["generate", "stream"])
def test_a_server_without_room_is_waited_for_as_long_as_it_says(
    server: Server, url: str, caller: Caller, method: str
) -> None:
    async def watch(order: Order, _every: int) -> Any:
        assert server.draw is not None
        yield await server.draw(order)

    server.watch = watch
    fails_first(server, OverloadedError("full", 7), UnavailableError("away"))
    asked = caller.stream if method == "stream" else caller.ask
    assert asked(url, method, "a")
    assert (caller.slept, len(server.orders)) == ([7.0, RETRY_AFTER_S], 3)


def test_attempts_and_waits_are_bounded(server: Server, url: str, caller: Caller) -> None:
    fails_first(server, *[OverloadedError("full", 1)] * 9)
    error = caller.refused(url, "generate", "a", retries=Retries(times=2))
    assert (error.status, error.retry_after_s, caller.slept, len(server.orders)) == (429, 1.0, [1.0, 1.0], 3)
    fails_first(server, OverloadedError("full", 61))
    assert caller.refused(url, "generate", "a").retry_after_s == 61
    assert len(server.orders) == 4


def test_what_the_server_says_would_end_alike_is_not_sent_again(server: Server, url: str, caller: Caller) -> None:
    fails_first(server, GivenUpError("it stops replicas"))
    assert caller.refused(url, "generate", "a", seed=1).code == "given_up"
    fails_first(server, ServingError("a fault"))
    assert caller.refused(url, "generate", "a", seed=1).status == 500
    assert (caller.slept, len(server.orders)) == ([], 2)


def test_nobody_there_is_tried_again_whatever_was_asked(caller: Caller) -> None:
    error = caller.refused(f"http://127.0.0.1:{free_port()}", "generate", "a")
    assert isinstance(error, Unreachable)
    assert not error.sent
    assert caller.slept == [0.5, 1.0, 2.0, 4.0]
    assert error.message.startswith("nobody answers at http://127.0.0.1:")


@pytest.fixture
def breaking() -> Iterator[tuple[str, list[bytes]]]:
    """A server that takes a whole request and says nothing, and what it was sent."""
    taken: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def take() -> None:
        while True:
            try:
                line, _ = listener.accept()
            except OSError:
                return
            with line:
                line.settimeout(10)
                found = b""
                while b"\r\n\r\n" not in found or len(found) < _whole(found):
                    found += line.recv(2**16)
                taken.append(found)

    thread = threading.Thread(target=take)
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}", taken
    # an accept that waits is woken by this alone
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


def _whole(request: bytes) -> int:
    head, _, _ = request.partition(b"\r\n\r\n")
    lengths = [int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")]
    return len(head) + 4 + sum(lengths)


@pytest.mark.parametrize(
    ("options", "again"),
    [
        ({"seed": 1}, True),
        ({"seed": 0}, True),
        ({}, False),
        ({"seed": 1, "store_latents": True}, False),
        ({"seed": 1, "subseed_strength": 0.5}, False),
        ({"seed": 1, "subseed_strength": 0.5, "subseed": 0}, True),
    ],
)
def test_a_line_that_broke_is_tried_again_only_for_what_gives_the_same_picture(
    breaking: tuple[str, list[bytes]], caller: Caller, options: dict[str, Any], again: bool
) -> None:
    address, taken = breaking
    error = caller.refused(address, "generate", "a", retries=Retries(times=2), **options)
    assert isinstance(error, Unreachable)
    assert error.sent
    assert len(taken) == (3 if again else 1)
    ids = [line for one in taken for line in one.lower().split(b"\r\n") if line.startswith(b"x-request-id")]
    assert len(set(ids)) == len(taken), "two attempts may be under way at once, and need two names"
    assert ids[-1].endswith(str(error.request_id).encode())


@pytest.mark.parametrize(
    ("method", "arguments"), [("inspect", [b"a picture"]), ("models", []), ("decode", ["an-id"]), ("rollout", [])]
)
def test_what_only_reads_is_tried_again(
    breaking: tuple[str, list[bytes]], caller: Caller, method: str, arguments: list[Any]
) -> None:
    address, taken = breaking
    assert isinstance(caller.refused(address, method, *arguments, retries=Retries(times=1)), Unreachable)
    assert len(taken) == 2


def test_a_server_that_says_nothing_is_not_asked_twice(server: Server, url: str, caller: Caller) -> None:
    go_on = threading.Event()

    async def draw(order: Order) -> Drawn:
        import asyncio

        await asyncio.to_thread(go_on.wait)
        return await draw_at_once(order)

    server.draw = draw
    error = caller.refused(url, "generate", "a", seed=1, timeout_s=0.2)
    go_on.set()
    assert isinstance(error, TimedOut)
    assert (caller.slept, len(server.orders)) == ([], 1)


def test_the_waits_double_up_to_their_bound() -> None:
    attempts = Attempts(Retries(times=6, most_wait_s=5, first_wait_s=1), Repeat.ALWAYS)
    broken: ClientError = Unreachable("broken", sent=True)
    assert [attempts.wait_s(broken) for _ in range(6)] == [1, 2, 4, 5, 5, 5]
    with pytest.raises(Unreachable):
        attempts.wait_s(broken)


def test_never_is_never() -> None:
    for error in (Unreachable("away", sent=False), ServerRefused("full", 429)):
        with pytest.raises(type(error)):
            Attempts(Retries(), Repeat.NEVER).wait_s(error)
