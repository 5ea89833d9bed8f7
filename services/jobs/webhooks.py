"""Telling of jobs' ends: signed, again where nobody answers, and so often at most."""

import asyncio
import base64
import binascii
import hmac
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256
from http import HTTPStatus

import aiohttp
from sqlalchemy.exc import DBAPIError
from yarl import URL

from services.jobs.addresses import AddressRefusedError, CheckedResolver, check_url
from services.jobs.records import DueDelivery
from services.jobs.state import state_of
from services.jobs.work import Work

_log = logging.getLogger("ray.serve")

_PREFIX = "whsec_"
_SECRET_BYTES = range(24, 65)
_AT_ONCE = 16
_LOOK_S = 1.0
# how long a receiver may take, from its name to its status
_ANSWER_S = 10.0
_FIRST_S, _TIMES, _LONGEST_S = 5.0, 4.0, 6 * 3600.0

Send = Callable[[str, Mapping[str, str], bytes], Awaitable[int]]


def key_of(secret: str) -> bytes:
    """The key that a webhook's secret spells, as Standard Webhooks has it.

    Raises:
        ValueError: it is none.
    """
    try:
        key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not secret.startswith(_PREFIX) or len(key) not in _SECRET_BYTES:
        raise ValueError(f"must be {_PREFIX} and then {_SECRET_BYTES[0]} to {_SECRET_BYTES[-1]} bytes in base64")
    return key


def signature(secret: str, id_: str, timestamp: int, body: bytes) -> str:
    """What signs a message: HMAC-SHA256 (RFC 2104) of its id, its time and its body, as Standard Webhooks has it."""
    signed = f"{id_}.{timestamp}.".encode() + body
    return f"v1,{base64.b64encode(hmac.digest(key_of(secret), signed, sha256)).decode()}"


def message(due: DueDelivery, now: float) -> tuple[dict[str, str], bytes]:
    """The headers and the body that tell of a job's end; `now` is seconds since 1970."""
    job = due.job
    ended = now if job.ended is None else job.ended
    told = {
        "type": f"job.{job.status}",
        "timestamp": datetime.fromtimestamp(ended, UTC).isoformat().replace("+00:00", "Z"),
        "data": state_of(job, job.terms.address, ended).model_dump(mode="json", exclude={"webhook"}),
    }
    body = json.dumps(told, separators=(",", ":")).encode()
    timestamp = int(now)
    headers = {"content-type": "application/json", "webhook-id": job.id, "webhook-timestamp": str(timestamp)}
    if due.webhook.secret is not None:
        headers["webhook-signature"] = signature(due.webhook.secret, job.id, timestamp, body)
    return headers, body


def again_in(attempt: int, most: int) -> float | None:
    """Seconds until the next attempt after so many, None where that was the last."""
    return None if attempt >= most else min(_LONGEST_S, _FIRST_S * _TIMES ** (attempt - 1))


@dataclass(frozen=True, slots=True)
class HttpSender:
    """Sends by HTTP to addresses that were looked at, follows no redirect, and reads nothing but the status."""

    http: bool
    private: bool

    async def __call__(self, url: str, headers: Mapping[str, str], body: bytes) -> int:
        """Send a body, and return the status of the answer.

        Raises:
            AddressRefusedError: the address is none to be led to.
            aiohttp.ClientError, OSError, TimeoutError: nobody answers.
        """
        checked: URL = check_url(url, http=self.http, private=self.private)
        connector = aiohttp.TCPConnector(
            resolver=CheckedResolver(private=self.private), use_dns_cache=False, force_close=True
        )
        limit = aiohttp.ClientTimeout(total=_ANSWER_S)
        async with (
            aiohttp.ClientSession(connector=connector, timeout=limit, cookie_jar=aiohttp.DummyCookieJar()) as session,
            session.post(checked, data=body, headers=headers, allow_redirects=False) as answer,
        ):
            return answer.status


class Webhooks:
    """Tells of the ends of jobs that the store says are due; used from one event loop.

    A message may come twice, as where a restart cuts off its answer; its id is the job's, and stays.
    """

    def __init__(
        self,
        work: Work,
        send: Send,
        attempts: int,
        told: Callable[[str], object],
        clock: Callable[[], float],
    ) -> None:
        """`told` learns how each attempt ended: delivered, failed or given_up; `clock` is seconds since 1970."""
        self._work = work
        self._send = send
        self._attempts = attempts
        self._told = told
        self._clock = clock
        self._under_way: dict[int, asyncio.Task[None]] = {}
        self._news = asyncio.Event()

    def look(self) -> None:
        """A job has ended."""
        self._news.set()

    async def run(self) -> None:
        """Tell of the ends of jobs, for ever."""
        try:
            while True:
                self._news.clear()
                await self._begin()
                try:
                    async with asyncio.timeout(_LOOK_S):
                        await self._news.wait()
                except TimeoutError:
                    continue
        finally:
            for task in self._under_way.values():
                task.cancel()

    async def _begin(self) -> None:
        try:
            found = await asyncio.to_thread(self._work.due_deliveries, 2 * _AT_ONCE)
        except DBAPIError as error:
            _log.error("webhooks: the store does not answer: %s", type(error.orig).__name__)
            return
        for due in found:
            if due.number in self._under_way or len(self._under_way) >= _AT_ONCE:
                continue
            task = asyncio.create_task(self._deliver(due))
            self._under_way[due.number] = task
            task.add_done_callback(partial(self._left, due.number))

    def _left(self, number: int, task: asyncio.Task[None]) -> None:
        del self._under_way[number]
        if task.cancelled():
            return
        if (error := task.exception()) is not None:
            # a fault of ours, which at once would only come again
            _log.error("webhooks: a message failed: %s", type(error).__name__)
            return
        self.look()

    async def _deliver(self, due: DueDelivery) -> None:
        headers, body = message(due, self._clock())
        status: int | None = None
        try:
            status = await self._send(due.webhook.url, headers, body)
        except AddressRefusedError:
            # a setting has changed since it was accepted
            status = None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # never where it leads
            _log.info("a webhook is not delivered: %s", type(error).__name__)
        delivered = status is not None and HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES
        # by 410 a receiver says that it wants no more
        over = delivered or status == HTTPStatus.GONE
        again_s = None if over else again_in(due.attempt, self._attempts)
        while not await self._noted(due.number, status, delivered, again_s):
            # until then it counts as under way: it would be sent again otherwise
            await asyncio.sleep(_LOOK_S)
        self._told("delivered" if delivered else "given_up" if again_s is None else "failed")

    async def _noted(self, number: int, status: int | None, delivered: bool, again_s: float | None) -> bool:
        try:
            await asyncio.to_thread(self._work.told, number, status, delivered=delivered, again_s=again_s)
        except DBAPIError as error:
            _log.error("webhooks: the store does not take an attempt: %s", type(error.orig).__name__)
            return False
        return True
