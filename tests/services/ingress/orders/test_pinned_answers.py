"""What an answer says of the versions that drew it, in JSON, headers and the file."""

import io
import json
from dataclasses import replace
from typing import Any

import pytest
from PIL import Image

from components.contract import Kind
from components.reference import ComponentRef
from registry.rollout.state import Canary
from services.encoding import METADATA_KEY
from services.errors import GivenUpError, OverloadedError
from services.messages import Drawn, LiveModel, Order, Outcome
from tests.services.conftest import record_of
from tests.services.ingress.conftest import draw_at_once

Server = Any


def _decoder(live: LiveModel, version: int) -> ComponentRef:
    return live.pins[Kind.VAE_DECODER].model_copy(update={"version": version, "sha256": f"{version:064x}"})


def test_components_that_a_request_asks_for(server: Server, live: LiveModel, monkeypatch: pytest.MonkeyPatch) -> None:
    candidate = _decoder(live, 5)
    server.controller.versions["toy.vae_decoder@candidate"] = (candidate, live.contracts[Kind.VAE_DECODER])
    chosen = {"vae_decoder": "toy.vae_decoder@candidate"}
    told_of: list[str] = []
    monkeypatch.setattr(server.metrics.version_requests, "inc", lambda tags: told_of.append(tags["version"]))
    response = server.generate(prompt="a", components=chosen)
    assert told_of == ["toy.text_encoder/1", "toy.denoiser/1", "toy.vae_decoder/5"]
    assert server.pinning._outcomes == [], "it says nothing for or against a canary"
    order = server.orders[0]
    assert order.pins == {**live.pins, Kind.VAE_DECODER: candidate}
    assert (order.fallback, order.id) == (live.pins[Kind.VAE_DECODER], "a request")
    told = {"name": "toy.vae_decoder", "version": 5, "sha256": candidate.sha256}
    assert response.json()["components"]["vae_decoder"] == told
    assert f"vae_decoder=toy.vae_decoder/5;sha256={candidate.sha256}" in response.headers["x-component-versions"]
    raw = server.generate("image/png", prompt="a", components=chosen)
    metadata = json.loads(Image.open(io.BytesIO(raw.content)).info[METADATA_KEY])
    assert metadata["components"]["vae_decoder"] == told


def test_what_is_asked_for_and_fails_says_nothing_of_a_canary(server: Server, live: LiveModel) -> None:
    async def fail(_order: Order) -> Drawn:
        raise GivenUpError("2 replicas stopped")

    server.draw = fail
    server.controller.versions["toy.vae_decoder/1"] = (
        live.pins[Kind.VAE_DECODER],
        live.contracts[Kind.VAE_DECODER],
    )
    assert server.generate(prompt="a", components={"vae_decoder": "toy.vae_decoder/1"}).status_code == 500
    assert server.pinning._outcomes == []
    assert server.generate(prompt="a", components={}).status_code == 500
    assert len(server.pinning._outcomes) == 3


def test_the_canary_is_told_in_every_form(server: Server, live: LiveModel) -> None:
    canary = Canary(ref=_decoder(live, 5), percent=100)
    versions = {canary.ref: live.contracts[Kind.VAE_DECODER]}
    server.pinning.record = record_of(live, canary=canary, versions=versions)
    response = server.generate(prompt="a")
    assert response.json()["components"]["vae_decoder"]["version"] == 5
    assert "vae_decoder=toy.vae_decoder/5;" in response.headers["x-component-versions"]
    assert server.orders[0].fallback == live.pins[Kind.VAE_DECODER]
    assert server.pinning._outcomes[2] == Outcome(canary.ref)


def test_a_picture_of_the_fallback_is_marked(server: Server, live: LiveModel) -> None:
    other = _decoder(live, 3)

    async def draw(order: Order) -> Drawn:
        made = (await draw_at_once(order)).pictures
        decoders = (order.pins[Kind.VAE_DECODER], other)
        return Drawn(
            tuple(replace(one, decoder=decoder) for one, decoder in zip(made, decoders, strict=False)), False, False
        )

    server.draw = draw
    response = server.generate(prompt="a", n=2)
    assert [one["fallback"] for one in response.json()["data"]] == [
        None,
        {"name": "toy.vae_decoder", "version": 3, "sha256": other.sha256},
    ]
    assert response.headers["x-fallback"] == "toy.vae_decoder/3"
    assert [one.non_finite for one in server.pinning._outcomes] == [False, False, True]
    assert "x-fallback" not in server.generate(prompt="a").headers


def test_where_latents_were_stored_is_told(server: Server) -> None:
    async def draw(order: Order) -> Drawn:
        made = (await draw_at_once(order)).pictures
        return Drawn(tuple(replace(one, latents=f"id-{k}") for k, one in enumerate(made)), False, False)

    assert "x-latents" not in server.generate(prompt="a").headers
    server.draw = draw
    response = server.generate(prompt="a", n=2, store_latents=True)
    assert [one["latents"] for one in response.json()["data"]] == ["id-0", "id-1"]
    assert response.headers["x-latents"] == "id-0, id-1"


def test_how_requests_ended_is_counted_by_version(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[str] = []
    monkeypatch.setattr(server.metrics.version_requests, "inc", lambda tags: counted.append(" ".join(tags.values())))

    async def fail(_order: Order) -> Drawn:
        raise GivenUpError("2 replicas stopped")

    async def refuse(_order: Order) -> Drawn:
        raise OverloadedError("too much waits")

    for draw in (None, fail, refuse):
        server.draw = draw
        server.generate(prompt="a")
    stages = ("text_encoder", "denoiser", "vae_decoder")
    assert counted == [f"{stage} toy.{stage}/1 {end}" for end in ("ok", "error") for stage in stages]
