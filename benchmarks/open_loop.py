"""Requests that come at the moments of a Poisson process, whatever becomes of those before them."""

import asyncio
import hashlib
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np

PATH = "/v1/images/generations"
_TIMEOUT_S = 300.0
_DECODER = re.compile(r"vae_decoder=[^/;]+/(?P<version>\d+)")


@dataclass(frozen=True, slots=True)
class Drawn:
    """One answer: which request it was, three moments on the clock of `time.monotonic`, and what came.

    It was due, it was sent, which is a little later where the client is busy, and it was answered. `version` is the
    decoder's, by the answer's header; `digest` is the picture's sha256; `error` is None where a picture came.
    """

    request: int
    due_s: float
    sent_s: float
    answered_s: float
    version: int
    digest: str
    error: str | None

    @property
    def ms(self) -> float:
        """From the moment at which it was due to the last byte."""
        return (self.answered_s - self.due_s) * 1000


def moments(per_second: float, seconds: float, seed: int) -> list[float]:
    """When requests come, in seconds from the first moment on."""
    rng = np.random.default_rng(seed)
    found: list[float] = []
    at_s = 0.0
    while (at_s := at_s + float(rng.exponential(1 / per_second))) < seconds:
        found.append(at_s)
    return found


async def offer(url: str, bodies: Sequence[dict[str, Any]], at: Sequence[float]) -> list[Drawn]:
    """Send the bodies in turn, each at its moment, and wait for all answers."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
    async with httpx.AsyncClient(base_url=url, timeout=_TIMEOUT_S, limits=limits, trust_env=False) as client:
        started = time.monotonic()

        async def one(number: int, moment: float) -> Drawn:
            await asyncio.sleep(max(0.0, started + moment - time.monotonic()))
            return await ask(client, number % len(bodies), bodies[number % len(bodies)], started + moment)

        return await asyncio.gather(*(one(number, moment) for number, moment in enumerate(at)))


async def closed_loop(url: str, bodies: Sequence[dict[str, Any]], clients: int, seconds: float) -> float:
    """Pictures a second where so many clients each ask again as soon as they have an answer."""
    async with httpx.AsyncClient(base_url=url, timeout=_TIMEOUT_S, trust_env=False) as client:
        started = time.monotonic()

        async def ask_on(first: int) -> int:
            made = 0
            while time.monotonic() - started < seconds:
                number = (first + made) % len(bodies)
                made += (await ask(client, number, bodies[number])).error is None
            return made

        made = sum(await asyncio.gather(*(ask_on(first) for first in range(clients))))
        return made / (time.monotonic() - started)


async def ask(client: httpx.AsyncClient, number: int, body: dict[str, Any], due_s: float | None = None) -> Drawn:
    """One request and its answer; whatever goes wrong is the answer's `error`. Without a moment it is due now."""
    sent_s = time.monotonic()
    due_s = sent_s if due_s is None else due_s
    try:
        response = await client.post(PATH, json=body, headers={"accept": "image/png"})
    except httpx.HTTPError as error:
        return Drawn(number, due_s, sent_s, time.monotonic(), 0, "", type(error).__name__)
    answered_s = time.monotonic()
    if response.status_code != httpx.codes.OK:
        return Drawn(number, due_s, sent_s, answered_s, 0, "", f"{response.status_code}: {response.text[:300]}")
    found = _DECODER.search(response.headers.get("x-component-versions", ""))
    version = 0 if found is None else int(found["version"])
    return Drawn(number, due_s, sent_s, answered_s, version, hashlib.sha256(response.content).hexdigest(), None)
