"""Webhooks against a real receiver, and the addresses to which none may lead."""

import asyncio
import base64
import hmac
import ipaddress
import json
import socket
import sqlite3
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from services.jobs import webhooks
from services.jobs.addresses import AddressRefusedError, CheckedResolver, allowed, check_url
from services.jobs.records import Delivery
from services.jobs.webhooks import HttpSender, Webhooks, again_in, key_of, signature
from services.jobs.work import Work
from tests.services.jobs.conftest import ANN, House, hook, with_settings

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@dataclass
class Receiver:
    """A real HTTP server that answers with the statuses that a test gives it, and then with 204."""

    statuses: list[int] = field(default_factory=list)
    location: str = ""
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    url: str = ""


@contextmanager
def receiving(*statuses: int) -> Iterator[Receiver]:
    made = Receiver(list(statuses))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            made.got.append(({name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(made.statuses.pop(0) if made.statuses else 204)
            if made.location:
                self.send_header("location", made.location)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        made.url = f"http://127.0.0.1:{server.server_address[1]}/hook?a=b"
        try:
            yield made
        finally:
            server.shutdown()
            thread.join()


@asynccontextmanager
async def telling(house: House, send: Any = None) -> AsyncIterator[tuple[Webhooks, list[str]]]:
    outcomes: list[str] = []
    _, work = house.open()
    sender = HttpSender(http=True, private=True) if send is None else send
    teller = Webhooks(work, sender, house.settings.webhook_attempts, outcomes.append, house.clock)
    task = asyncio.create_task(teller.run())
    try:
        yield teller, outcomes
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def cancelled(house: House, url: str, secret: str | None = SECRET) -> str:
    """A job with a webhook that has come to its end."""
    store, _ = house.open()
    job, _ = store.submit(house.submission(webhook=hook(secret, url)))
    house.clock.now += 3
    store.cancel(job.id, ANN)
    return job.id


def delivery(house: House, id_: str) -> Delivery:
    store, _ = house.open()
    found = store.view(id_, ANN).delivery
    assert found is not None
    return found


async def until(there: Any) -> None:
    while not there():
        await asyncio.sleep(0.005)


def test_the_signature_is_that_of_standard_webhooks() -> None:
    """The vector of the specification's own libraries."""
    signed = signature(SECRET, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_!!", "whsec_c2hvcnQ=", SECRET[6:], "whsec_" + "A" * 200])
def test_another_secret_is_refused(secret: str) -> None:
    with pytest.raises(ValueError, match="must be whsec_ and then 24 to 64 bytes"):
        key_of(secret)


def test_a_jobs_end_is_told_once_and_signed(house: House) -> None:
    async def scenario() -> list[str]:
        async with telling(house) as (_, outcomes):
            await until(lambda: outcomes)
            return outcomes

    with receiving() as receiver:
        id_ = cancelled(house, receiver.url)
        house.clock.now += 2
        assert asyncio.run(scenario()) == ["delivered"]
    [(headers, body)] = receiver.got
    assert headers["webhook-id"] == id_
    assert headers["webhook-timestamp"] == "1000005"
    assert headers["content-type"] == "application/json"
    signed = f"{id_}.1000005.".encode() + body
    digest = hmac.new(base64.b64decode(SECRET.removeprefix("whsec_")), signed, sha256).digest()
    assert headers["webhook-signature"] == "v1," + base64.b64encode(digest).decode()
    told = json.loads(body)
    assert (told["type"], told["timestamp"]) == ("job.cancelled", "1970-01-12T13:46:43Z")
    assert (told["data"]["id"], told["data"]["status"]) == (id_, "cancelled")
    assert told["data"]["url"] == f"http://here/v1/jobs/{id_}"
    assert told["data"]["timings"] == {"queued_s": 3.0, "generating_s": None}
    assert SECRET.encode() not in body
    assert delivery(house, id_) == Delivery("delivered", 1, 204)


def test_without_a_secret_nothing_is_signed(house: House) -> None:
    async def scenario() -> None:
        async with telling(house) as (_, outcomes):
            await until(lambda: outcomes)

    with receiving() as receiver:
        cancelled(house, receiver.url, None)
        asyncio.run(scenario())
    assert "webhook-signature" not in receiver.got[0][0]


def test_it_is_told_again_with_longer_waits_and_across_a_restart(house: House) -> None:
    async def scenario(attempts: int) -> list[str]:
        async with telling(house) as (webhooks, outcomes):
            while len(outcomes) < attempts:
                webhooks.look()
                await asyncio.sleep(0.005)
            # not before its time
            webhooks.look()
            await asyncio.sleep(0.05)
            return outcomes

    with receiving(500, 429, 302, 503) as receiver:
        receiver.location = receiver.url
        id_ = cancelled(house, receiver.url)
        for wait_s in (5, 20, 80, 320):
            assert asyncio.run(scenario(1)) == ["failed"]
            assert delivery(house, id_).state == "pending"
            house.clock.now += wait_s - 0.5
            assert asyncio.run(scenario(0)) == []
            house.clock.now += 0.5
        assert asyncio.run(scenario(1)) == ["delivered"]
    # no redirect was followed
    assert len(receiver.got) == 5
    assert {headers["webhook-id"] for headers, _ in receiver.got} == {id_}
    assert len({headers["webhook-signature"] for headers, _ in receiver.got}) == 5
    assert delivery(house, id_) == Delivery("delivered", 5, 204)


def test_it_is_given_up_after_so_many_attempts(house: House) -> None:
    async def scenario() -> list[str]:
        async with telling(house, refuse) as (webhooks, outcomes):
            while len(outcomes) < 3:
                house.clock.now += 60
                webhooks.look()
                await asyncio.sleep(0.005)
            return outcomes

    async def refuse(*_: Any) -> int:
        raise ConnectionRefusedError

    with_settings(house, webhook_attempts=3)
    id_ = cancelled(house, "https://hooks.example/")
    assert asyncio.run(scenario()) == ["failed", "failed", "given_up"]
    assert delivery(house, id_) == Delivery("given_up", 3, None)
    assert [again_in(attempt, 3) for attempt in (1, 2, 3)] == [5, 20, None]
    assert again_in(30, 40) == 6 * 3600


def test_410_ends_it(house: House) -> None:
    async def scenario() -> list[str]:
        async with telling(house) as (_, outcomes):
            await until(lambda: outcomes)
            return outcomes

    with receiving(410) as receiver:
        id_ = cancelled(house, receiver.url)
        assert asyncio.run(scenario()) == ["given_up"]
    assert delivery(house, id_) == Delivery("given_up", 1, 410)


def test_a_store_that_takes_nothing_lets_nobody_be_told_twice(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    noted, failures = Work.told, iter(range(2))

    def locked(work: Work, *arguments: Any, **named: Any) -> None:
        if next(failures, None) is not None:
            raise OperationalError("update", {}, sqlite3.OperationalError("database is locked"))
        noted(work, *arguments, **named)

    monkeypatch.setattr(Work, "told", locked)
    monkeypatch.setattr(webhooks, "_LOOK_S", 0.02)

    async def scenario() -> list[str]:
        async with telling(house) as (_, outcomes):
            await until(lambda: outcomes)
            return outcomes

    with receiving() as receiver:
        id_ = cancelled(house, receiver.url)
        assert asyncio.run(scenario()) == ["delivered"]
    assert next(failures, None) is None, "the store was asked until it took it"
    assert len(receiver.got) == 1
    assert delivery(house, id_).state == "delivered"


def test_a_fault_of_ours_is_no_flood(house: House) -> None:
    sent: list[str] = []

    async def breaks(url: str, _headers: Any, _body: bytes) -> int:
        sent.append(url)
        raise AssertionError("a fault of ours")

    async def scenario() -> None:
        async with telling(house, breaks):
            await until(lambda: sent)
            await asyncio.sleep(0.3)

    cancelled(house, "http://127.0.0.1/hook")
    asyncio.run(scenario())
    assert len(sent) == 1, "it is looked at again after a second"


def test_by_default_nothing_is_sent_to_this_machine(house: House) -> None:
    """Whatever was accepted once: what is sent is looked at again."""

    async def scenario(sender: HttpSender) -> list[str]:
        async with telling(house, sender) as (_, outcomes):
            await until(lambda: outcomes)
            return outcomes

    with receiving() as receiver:
        for url in (receiver.url, receiver.url.replace("127.0.0.1", "localhost")):
            cancelled(house, url)
            assert asyncio.run(scenario(HttpSender(http=True, private=False))) == ["failed"]
    assert receiver.got == []


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.255.255.254",
        "0.0.0.0",
        "0.1.2.3",
        "10.0.0.1",
        "100.64.0.1",
        "169.254.169.254",
        "172.16.0.1",
        "192.0.0.192",
        "192.168.1.1",
        "198.18.0.1",
        "168.63.129.16",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
        "2002:a9fe:a9fe::1",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "fe80::1%eth0",
        "fec0::1",
        "ff02::1",
        "2001:db8::1",
        "100::1",
    ],
)
def test_an_address_that_is_none_of_the_internets_is_refused(address: str) -> None:
    assert not allowed(ipaddress.ip_address(address), private=False)
    host = f"[{address}]" if ":" in address else address
    with pytest.raises(AddressRefusedError):
        check_url(f"https://{host}/", http=False, private=False)


@pytest.mark.parametrize("address", ["93.184.216.34", "8.8.8.8", "2606:2800:220:1::1", "64:ff9b::808:808"])
def test_the_internets_are_not(address: str) -> None:
    assert allowed(ipaddress.ip_address(address), private=False)


@pytest.mark.parametrize("address", ["10.0.0.1", "127.0.0.1", "192.168.1.1", "fd12::1", "::1", "::ffff:10.0.0.1"])
def test_private_ones_are_for_who_allows_them(address: str) -> None:
    assert allowed(ipaddress.ip_address(address), private=True)


@pytest.mark.parametrize(
    "address", ["169.254.169.254", "fe80::1", "100.100.100.200", "168.63.129.16", "0.0.0.0", "fd00:ec2::254"]
)
def test_where_clouds_keep_secrets_is_for_nobody(address: str) -> None:
    assert not allowed(ipaddress.ip_address(address), private=True)


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.example/",
        "ftp://hooks.example/",
        "hooks.example",
        "https://",
        "https://me@hooks.example/",
        "https://me:secret@hooks.example/",
        "https://hooks.example/#part",
        "https://hooks.example:99999/",
        "https://hooks.example/ a",
        "https://hooks.example/\n",
        "https://hooks.ex\N{LATIN SMALL LETTER A WITH ACUTE}mple/",
        "https://hooks.example/" + "a" * 2048,
        "file:///etc/passwd",
    ],
)
def test_another_address_is_refused(url: str) -> None:
    with pytest.raises(AddressRefusedError):
        check_url(url, http=False, private=False)


def test_http_is_for_who_allows_it() -> None:
    assert str(check_url("http://hooks.example/a?b=c", http=True, private=False)) == "http://hooks.example/a?b=c"


@pytest.mark.parametrize("spelled", ["127.1", "2130706433", "0x7f.1", "0177.0.0.1", "localhost"])
def test_other_spellings_of_this_machine_are_found_out(spelled: str) -> None:
    with pytest.raises(OSError, match="no webhook may lead to"):
        asyncio.run(CheckedResolver(private=False).resolve(spelled, 443))


def test_one_bad_address_of_a_host_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that gives a good address and a bad one would be connected to by whichever answers."""

    async def scenario(*addresses: str) -> list[str]:
        async def found(host: str, port: int, **_: Any) -> Any:
            assert host == "hooks.example"
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", found, raising=False)
        return [one["host"] for one in await CheckedResolver(private=False).resolve("hooks.example", 443)]

    assert asyncio.run(scenario("93.184.216.34", "8.8.8.8")) == ["93.184.216.34", "8.8.8.8"]
    with pytest.raises(OSError, match="no webhook may lead to"):
        asyncio.run(scenario("93.184.216.34", "10.0.0.1"))


def test_what_is_connected_to_is_what_was_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that leads elsewhere at the second look has no second look."""
    looks: list[str] = []

    async def scenario(port: int) -> int:
        async def found(host: str, port: int, **_: Any) -> Any:
            looks.append(host)
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", found, raising=False)
        return await HttpSender(http=True, private=True)(f"http://rebinds.example:{port}/", {}, b"{}")

    with receiving() as receiver:
        port = int(receiver.url.split(":")[2].split("/")[0])
        assert asyncio.run(scenario(port)) == 204
    assert looks == ["rebinds.example"]
    assert receiver.got[0][0]["host"] == f"rebinds.example:{port}"
