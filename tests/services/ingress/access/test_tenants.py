"""What a key's name means once it is let in: shares, limits, and latents that are nobody else's."""

import asyncio
import json
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest

from components.contract import Kind
from registry.rollout.state import Canary
from services.files.store import StoreSettings
from services.ingress.app import create_app
from services.ingress.latents.face import LatentsFace
from services.keys.keyring import Keyring
from services.keys.records import KeyRecord, Role, digest_of
from services.keys.settings import KeyLimits
from services.latents.records import Compared, CompareOrder, DecodeOrder, KeptLatents
from services.latents.store import LatentStore
from services.messages import Drawn, Encoding, LiveModel, Order, Picture
from tests.requests import image_request
from tests.services.ingress.conftest import GENERATIONS, RETRY_AFTER_S, Server, draw_at_once, error_of, listening

ANN, BEN, OPERATOR = "lw-ann-1f", "lw-ben-2e", "lw-operator-3d"


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def record(name: str, key: str, role: Role = "images", limits: dict[str, float] | None = None) -> KeyRecord:
    return KeyRecord(name, digest_of(key.encode()), frozenset([role]), KeyLimits.model_validate(limits or {}))


def with_keys(server: Server, clock: Clock | None = None, **limits: float) -> Server:
    """The same server with three keys, of which Ann's has limits."""
    records = [record("ann", ANN, limits=limits), record("ben", BEN), record("operator", OPERATOR, "operate")]
    keyring = Keyring(records, Clock() if clock is None else clock)
    server.app = create_app(server.faces, server.metrics, RETRY_AFTER_S, keyring)
    return server


def generate(server: Server, key: str, **body: Any) -> httpx.Response:
    return server.request("POST", GENERATIONS, json={"prompt": "a", **body}, headers=bearer(key))


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def test_the_keys_name_is_whose_share_it_is_whatever_user_it_names(server: Server) -> None:
    with_keys(server)
    for key, user in ((ANN, None), (ANN, "me"), (BEN, "me"), (BEN, "ann")):
        assert generate(server, key, user=user).status_code == 200
    assert [order.terms.tenant for order in server.orders] == ["ann", "ann", "ben", "ben"]
    owners = {order.terms.owner for order in server.orders}
    assert len(owners) == 4
    assert None not in owners


def test_without_keys_the_user_is_whose_share_it_is(server: Server) -> None:
    assert server.generate(prompt="a", user="me").status_code == 200
    assert (server.orders[0].terms.tenant, server.orders[0].terms.owner) == ("me", None)


def test_a_sticky_canary_follows_users_and_not_keys(server: Server) -> None:
    """One key's whole traffic would go to a canary, or none of it."""
    with_keys(server)
    live = server.pinning.record.live
    canary = live.pins[Kind.VAE_DECODER].model_copy(update={"version": 2})
    versions = {**server.pinning.record.versions, canary: live.contracts[Kind.VAE_DECODER]}
    server.pinning.record = replace(
        server.pinning.record, versions=versions, canary=Canary(ref=canary, percent=50, sticky=True)
    )
    for number in range(40):
        server.request_id = f"request {number}"
        assert generate(server, ANN).status_code == 200
    assert {order.pins[Kind.VAE_DECODER].version for order in server.orders} == {1, 2}


def test_the_rate_of_one_key_is_not_anothers(server: Server) -> None:
    clock = Clock()
    with_keys(server, clock, pictures_per_minute=6, burst=2)
    assert [generate(server, ANN).status_code for _ in range(3)] == [200, 200, 429]
    refused = generate(server, ANN)
    error = error_of(refused, 429)
    assert (error["type"], error["code"]) == ("rate_limit_error", "rate_limit_exceeded")
    assert (refused.headers["retry-after"], refused.headers["retry-after-ms"]) == ("10", "10000")
    assert "ann" not in refused.text
    assert generate(server, BEN, n=4).status_code == 200
    clock.now += 10
    assert [generate(server, ANN).status_code for _ in range(2)] == [200, 429]
    clock.now += 20
    assert generate(server, ANN, n=2).status_code == 200
    assert generate(server, ANN, n=0).status_code == 422, "what is wrong is told first"
    assert (server.admission.images, len(server.orders)) == (0, 5)


def test_more_than_may_ever_come_at_once_is_forbidden(server: Server) -> None:
    with_keys(server, pictures_per_minute=60, burst=2, concurrent_pictures=3)
    refused = generate(server, ANN, n=3)
    error = error_of(refused, 403)
    assert error["message"] == "3 pictures in one request: must be at most 2, the burst of this key"
    assert "retry-after" not in refused.headers
    assert server.admission.images == 0


def test_pictures_of_one_key_under_way_are_bounded(server: Server) -> None:
    with_keys(server, concurrent_pictures=2)

    async def scenario() -> list[httpx.Response]:
        begun, go_on = asyncio.Event(), asyncio.Event()

        async def slowly(order: Order) -> Drawn:
            begun.set()
            await go_on.wait()
            return await draw_at_once(order)

        async def ask(key: str) -> httpx.Response:
            return await server.arequest("POST", GENERATIONS, json={"prompt": "a", "n": 2}, headers=bearer(key))

        server.draw = slowly
        first = asyncio.create_task(ask(ANN))
        await begun.wait()
        refused = await ask(ANN)
        other = asyncio.create_task(ask(BEN))
        while len(server.orders) < 2:
            await asyncio.sleep(0)
        go_on.set()
        return [await first, refused, await other, await ask(ANN)]

    first, refused, other, after = asyncio.run(scenario())
    assert [one.status_code for one in (first, other, after)] == [200, 200, 200]
    error = error_of(refused, 429)
    assert error["code"] == "rate_limit_exceeded"
    assert refused.headers["retry-after"] == str(RETRY_AFTER_S)


def test_a_stream_that_has_ended_is_under_way_no_more(server: Server) -> None:
    with_keys(server, concurrent_pictures=1)
    streamed = generate(server, ANN, stream=True, partial_images=1)
    assert "image_generation.completed" in streamed.text
    assert generate(server, ANN).status_code == 200


def test_a_full_server_takes_nothing_of_a_keys_rate(server: Server) -> None:
    with_keys(server, pictures_per_minute=1, burst=1)
    with ExitStack() as full:
        full.enter_context(server.admission.admitted(4, _somebody()))
        assert error_of(generate(server, ANN), 429)["code"] == "overloaded"
    assert generate(server, ANN).status_code == 200


def _somebody() -> Any:
    found = Keyring([record("cid", "c")]).find(b"c")
    assert found is not None
    return found


@dataclass
class House:
    """The latents face on a real store, with one picture kept for each owner that a test has."""

    server: Server
    store: LatentStore

    def keep(self, key: str, user: str | None, live: LiveModel) -> str:
        """What the graph does with an order that keeps its latents."""
        assert generate(self.server, key, user=user, store_latents=True).status_code == 200
        terms = self.server.orders[-1].terms
        kept = KeptLatents(
            latents=np.zeros((1, 4, 8, 8), np.float32),
            request=image_request(width=64, height=64, seed=7, n=1),
            pins=live.pins,
            contract=live.contracts[Kind.DENOISER],
        )
        return self.store.keep(kept, terms.tenant if terms.owner is None else terms.owner)

    def statuses(self, id_: str, key: str, user: str | None) -> set[int]:
        decoded = self.server.request(
            "POST", f"/v1/latents/{id_}/decode", content=json.dumps({"user": user}), headers={**bearer(key), **JSON}
        )
        query = {"components": "toy.vae_decoder/1,toy.vae_decoder/2", **({} if user is None else {"user": user})}
        compared = self.server.request("GET", f"/v1/latents/{id_}/compare", params=query, headers=bearer(key))
        for response in (decoded, compared):
            if response.status_code != 200:
                assert error_of(response, 404)["code"] == "latents_not_found"
        return {decoded.status_code, compared.status_code}


JSON = {"content-type": "application/json"}


@pytest.fixture
def house(server: Server, live: LiveModel, tmp_path: Path) -> House:
    settings = StoreSettings(store=str(tmp_path / "latents"), most_bytes=2**20, keep_s=60)
    store = LatentStore(settings, lambda _: None)

    async def read(id_: str, owner: str) -> KeptLatents:
        return store.read(id_, owner)

    async def decode(order: DecodeOrder) -> Picture:
        return (await draw_at_once(Order(order.kept.request, live.pins, order.encoding))).pictures[0]

    async def compare(order: CompareOrder) -> Compared:
        drawn = await draw_at_once(Order(order.kept.request, live.pins, Encoding()))
        return Compared(files=(drawn.pictures[0].data,), psnr_db=9.0, max_difference=5, factor=1)

    for version in (1, 2):
        pin = live.pins[Kind.VAE_DECODER].model_copy(update={"version": version})
        server.controller.versions[str(pin)] = (pin, live.contracts[Kind.VAE_DECODER])
    face = LatentsFace(server.pinning, read, decode, compare, server.admission, server.metrics)
    server.faces.append(face)
    return House(with_keys(server), store)


def test_latents_are_those_of_one_key_and_one_user_of_it(house: House, live: LiveModel) -> None:
    for user in (None, "me"):
        id_ = house.keep(ANN, user, live)
        assert house.statuses(id_, ANN, user) == {200}
        for key, other in ((BEN, user), (BEN, "ann"), (BEN, f"ann/{user}"), (ANN, "you"), (ANN, f"ann/{user}")):
            assert house.statuses(id_, key, other) == {404}, (key, other)
    assert house.statuses(house.keep(BEN, "me", live), ANN, "me") == {404}


def test_a_decoding_counts_as_a_picture_of_its_key(server: Server, house: House, live: LiveModel) -> None:
    id_ = house.keep(ANN, None, live)
    with_keys(server, pictures_per_minute=1, burst=1)
    decode: Callable[[], httpx.Response] = lambda: server.request(  # noqa: E731
        "POST", f"/v1/latents/{id_}/decode", content="{}", headers={**bearer(ANN), **JSON}
    )
    assert decode().status_code == 200
    error_of(decode(), 429)
    compared = server.request(
        "GET", f"/v1/latents/{id_}/compare?components=toy.vae_decoder/1,toy.vae_decoder/2", headers=bearer(ANN)
    )
    assert "2 pictures in one request" in error_of(compared, 403)["message"]


def test_openais_client_raises_its_own_exception_for_each(server: Server) -> None:
    with_keys(server, pictures_per_minute=1, burst=1)

    def client(url: str, key: str) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0)

    with listening(server) as url:
        with client(url, ANN) as ann:
            assert ann.images.generate(prompt="a").data
            with pytest.raises(openai.RateLimitError) as limited:
                ann.images.generate(prompt="a")
        with client(url, "lw-another") as nobody, pytest.raises(openai.AuthenticationError) as unknown:
            nobody.images.generate(prompt="a")
        with client(url, OPERATOR) as operator, pytest.raises(openai.PermissionDeniedError) as forbidden:
            operator.models.list()
    assert (limited.value.code, limited.value.type) == ("rate_limit_exceeded", "rate_limit_error")
    assert limited.value.response.headers["retry-after"] == "60"
    assert (unknown.value.code, unknown.value.type) == ("invalid_api_key", "authentication_error")
    assert (forbidden.value.code, forbidden.value.type) == ("permission_denied", "permission_error")
    assert len({one.value.status_code for one in (limited, unknown, forbidden)}) == 3
