"""Clients that ask for one picture after another, and what becomes of every request."""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import httpx

from benchmarks.cluster.clients import asking
from benchmarks.cluster.door import GENERATIONS, Door

BODY: Mapping[str, Any] = MappingProxyType({"prompt": "a red apple, 3d style", "steps": 12, "seed": 7})


@dataclass(slots=True)
class Load:
    """The moments, by `time.monotonic`, at which answers came, and what was said where one was no picture."""

    answered: list[float] = field(default_factory=list)
    failed: list[tuple[float, str]] = field(default_factory=list)
    pictures: set[str] = field(default_factory=set)

    @property
    def longest_gap_s(self) -> float:
        """The longest time without a picture."""
        return max((later - sooner for sooner, later in zip(self.answered, self.answered[1:], strict=False)), default=0)

    def __str__(self) -> str:
        failed = "none failed" if not self.failed else f"{len(self.failed)} failed, the first: {self.failed[0][1]}"
        alike = "all alike" if len(self.pictures) == 1 else f"{len(self.pictures)} different pictures"
        gap = f"longest time without an answer {self.longest_gap_s:.1f} s"
        return f"{len(self.answered)} requests, {failed}, {alike}; {gap}"


@contextmanager
def load_on(door: Door, clients: int = 3, path: str = GENERATIONS, body: Mapping[str, Any] = BODY) -> Iterator[Load]:
    """A block during which a few clients ask the same without pause; its end waits for their last answers."""
    found, lock = Load(), threading.Lock()

    def ask_on(over: threading.Event) -> None:
        with door.client() as client:
            while not over.is_set():
                try:
                    answer = client.post(path, json=dict(body))
                    said = "" if answer.status_code == httpx.codes.OK else f"{answer.status_code} {answer.text[:200]}"
                    picture = "" if said else answer.json()["data"][0]["b64_json"]
                except httpx.TransportError as error:
                    said, picture = type(error).__name__, ""
                with lock:
                    if said:
                        found.failed.append((time.monotonic(), said))
                    else:
                        found.answered.append(time.monotonic())
                        found.pictures.add(picture)
                if said:
                    over.wait(0.2)

    with asking(clients, ask_on):
        yield found
