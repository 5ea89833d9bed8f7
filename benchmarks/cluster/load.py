"""Clients that ask for one picture after another, and what becomes of every request."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx

_CLIENTS = 3
_BODY = {"prompt": "a red apple, 3d style", "steps": 12, "seed": 7}
_ANSWER_WITHIN_S = 120.0


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


@contextmanager
def load_on(url: str) -> Iterator[Load]:
    """A block during which a few clients ask without pause; its end waits for their last answers."""
    found, lock, over = Load(), threading.Lock(), threading.Event()

    def ask_on() -> None:
        with httpx.Client(base_url=url, timeout=_ANSWER_WITHIN_S, trust_env=False) as client:
            while not over.is_set():
                try:
                    answer = client.post("/v1/images/generations", json=_BODY)
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

    threads = [threading.Thread(target=ask_on) for _ in range(_CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        yield found
    finally:
        over.set()
        for thread in threads:
            thread.join()
