"""What the ingress asks of Ray, where Ray does not answer, or not to the end."""

import asyncio
import socket
import struct
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray.exceptions import RaySystemError

from services.errors import UnavailableError
from services.ingress.cluster import node_metrics

HERE = "a-node"


@pytest.fixture
def agent() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


@pytest.fixture
def nodes(agent: socket.socket, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    known = [{"NodeID": HERE, "NodeManagerAddress": "127.0.0.1", "MetricsExportPort": agent.getsockname()[1]}]
    monkeypatch.setattr(ray, "get_runtime_context", lambda: SimpleNamespace(get_node_id=lambda: HERE))
    monkeypatch.setattr(ray, "nodes", lambda: known)
    return known


def answer_once(agent: socket.socket, answer: bytes, *, reset: bool = False) -> None:
    def serve_one() -> None:
        connection, _ = agent.accept()
        with connection:
            connection.recv(2**16)
            connection.sendall(answer)
            if reset:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    threading.Thread(target=serve_one, daemon=True).start()


@pytest.mark.usefixtures("nodes")
def test_the_agents_page(agent: socket.socket) -> None:
    answer_once(agent, b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\nfigures")
    assert asyncio.run(node_metrics()) == b"figures"


@pytest.mark.usefixtures("nodes")
@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize(
    "broken",
    [
        b"",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 70\r\n\r\nfigures",
        b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n",
    ],
    ids=["nothing", "no HTTP", "cut off", "failed"],
)
def test_an_agent_that_does_not_answer_to_the_end(agent: socket.socket, broken: bytes, reset: bool) -> None:
    answer_once(agent, broken, reset=reset)
    with pytest.raises(UnavailableError, match="metrics agent"):
        asyncio.run(node_metrics())


def test_a_node_that_ray_does_not_know_hangs_nothing(nodes: list[dict[str, Any]]) -> None:
    nodes.clear()

    async def ask() -> bytes:
        return await asyncio.wait_for(node_metrics(), 5)

    with pytest.raises(UnavailableError, match="node"):
        asyncio.run(ask())


@pytest.mark.usefixtures("nodes")
def test_a_head_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    def away() -> list[Any]:
        raise RaySystemError("the GCS is away")

    monkeypatch.setattr(ray, "nodes", away)
    with pytest.raises(UnavailableError):
        asyncio.run(node_metrics())
