"""Clients that ask again, with the same idempotency key, until they have a picture."""

import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle

from benchmarks.cluster.clients import asking
from benchmarks.cluster.door import GENERATIONS, Door
from services.client.errors import ClientError, Unreachable
from services.client.replies import refusal, translated
from services.client.retries import Attempts, Repeat, Retries

_CLIENTS = 3
# without a seed: a picture that was drawn twice would be two pictures
_BODY = {"prompt": "a red apple, 3d style", "steps": 12, "on_disconnect": "keep"}
_RETRIES = Retries(times=100, most_wait_s=5)


@dataclass(frozen=True, slots=True)
class Granted:
    """What a key came to: the job that it is, the seed that the server drew, and the picture in base64."""

    job: str
    seed: int
    picture: str


@dataclass(slots=True)
class Wish:
    """One request by its idempotency key, and what came of it each time that it was asked.

    `broke` counts the lines that broke while an answer was waited for, `closed` the doors at which nobody was.
    """

    key: str = field(default_factory=lambda: uuid.uuid4().hex)
    granted: list[Granted] = field(default_factory=list)
    broke: int = 0
    closed: int = 0
    failed: str = ""

    @property
    def asked_again(self) -> bool:
        """Whether it did not come to its picture at once."""
        return self.broke + self.closed > 0


@contextmanager
def wishes_at(doors: Sequence[Door]) -> Iterator[list[Wish]]:
    """A block during which a few clients wish without pause, each time first at the first door, then at the next.

    They ask again when and as often as our client does for what may come twice. What was granted is asked for once
    more, by its key. The block's end waits until every wish is granted or has failed.
    """
    wishes: list[Wish] = []
    lock = threading.Lock()

    def wish_on(over: threading.Event) -> None:
        while not over.is_set():
            wish = Wish()
            with lock:
                wishes.append(wish)
            try:
                wish.granted.append(_grant(wish, doors))
                wish.granted.append(_grant(wish, doors))
            except ClientError as error:
                wish.failed = error.message
                over.wait(0.2)

    with asking(_CLIENTS, wish_on):
        yield wishes


def _grant(wish: Wish, doors: Sequence[Door]) -> Granted:
    attempts, turn = Attempts(_RETRIES, Repeat.ALWAYS), cycle(doors)
    while True:
        try:
            return _ask(wish, next(turn))
        except ClientError as error:
            if isinstance(error, Unreachable):
                wish.broke += error.sent
                wish.closed += not error.sent
            wait_s = attempts.wait_s(error)
        time.sleep(wait_s)


def _ask(wish: Wish, door: Door) -> Granted:
    with translated(door.url, wish.key), door.client() as client:
        answer = client.post(GENERATIONS, json=_BODY, headers={"idempotency-key": wish.key})
        if not answer.is_success:
            raise refusal(answer)
        [picture] = answer.json()["data"]
    return Granted(answer.headers["x-job-id"], picture["seed"], picture["b64_json"])
