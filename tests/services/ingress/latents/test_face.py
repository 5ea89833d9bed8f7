"""The latents face on a graph that answers at once: forms of answers, and everything that is refused."""

import asyncio
import base64
import io
import json
import math
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from PIL import Image
from ray.exceptions import RayTaskError

from components.contract import Contract, Kind
from components.reference import ComponentRef
from services.encoding import describe, encode_picture
from services.errors import FieldError, LatentsNotFoundError, NonFiniteImageError, StartError
from services.ingress.app import create_app
from services.ingress.latents.face import LatentsFace
from services.ingress.orders.admission import Admission
from services.keys.keyring import ANYBODY
from services.latents.records import Compared, CompareOrder, DecodeOrder, KeptLatents
from services.messages import Encoding, LiveModel, Picture
from services.metrics.ingress import IngressMetrics
from tests.requests import image_request
from tests.services.ingress.conftest import error_of

ID = "an-id"
CANARY = "canary-51fe"
JSON = {"content-type": "application/json"}


@dataclass
class Server:
    """The application with the latents of one tenant, `me`, and what a test may set or look at."""

    live: LiveModel
    app: FastAPI = field(default_factory=FastAPI)
    admission: Admission = field(default_factory=lambda: Admission(2, lambda _: None))
    orders: list[Any] = field(default_factory=list)
    fails: Exception | None = None
    fallback_pin: ComponentRef | None = None
    asked: list[tuple[str, int]] = field(default_factory=list)
    psnr_db: float = 41.268

    def __post_init__(self) -> None:
        metrics = IngressMetrics()
        face = LatentsFace(self, self.read, self.decode, self.compare, self.admission, metrics)
        self.app = create_app([face], metrics, 3)

    @property
    def kept(self) -> KeptLatents:
        return KeptLatents(
            latents=np.zeros((1, 4, 8, 8), np.float32),
            request=image_request(width=64, height=64, seed=7, subseed=9, subseed_strength=0.5, n=1),
            pins=self.live.pins,
            contract=self.live.contracts[Kind.DENOISER],
            prompt_truncated=True,
        )

    async def component(self, kind: Kind, selector: str, field: str) -> tuple[ComponentRef, Contract]:
        self.asked.append((selector, self.admission.images))
        name, _, version = selector.partition("/")
        if name != f"toy.{kind}":
            raise FieldError(f"{field}={selector!r}: must be a version of toy.{kind}", field)
        pin = self.live.pins[kind]
        contract = self.live.contracts[kind]
        if version == "3":
            space = contract.latent_space
            assert space is not None
            contract = contract.model_copy(
                update={"latent_space": space.model_copy(update={"id": "other", "scaling_factor": 0.25})}
            )
        return pin.model_copy(update={"version": int(version)}), contract

    def fallback(self, decoder: ComponentRef, denoiser: Contract) -> ComponentRef | None:
        assert (decoder.name, denoiser) == ("toy.vae_decoder", self.live.contracts[Kind.DENOISER])
        return self.fallback_pin

    async def read(self, id_: str, tenant: str) -> KeptLatents:
        if (id_, tenant) != (ID, "me"):
            raise LatentsNotFoundError("id: there are no such latents", "id")
        return self.kept

    async def decode(self, order: DecodeOrder) -> Picture:
        self.orders.append(order)
        if self.fails is not None:
            raise self.fails
        made = order.fallback if order.fallback is not None else order.decoder
        pixels = np.full((64, 64, 3), made.version, np.uint8)
        metadata = describe(order.kept.request, {**order.kept.pins, Kind.VAE_DECODER: order.decoder}, made)
        return Picture(encode_picture(pixels, order.encoding, metadata), 7, 9, made)

    async def compare(self, order: CompareOrder) -> Compared:
        self.orders.append(order)
        if self.fails is not None:
            raise self.fails
        files = [
            encode_picture(np.full((64, 64, 3), one.version, np.uint8), Encoding(), "{}") for one in order.decoders
        ]
        return Compared(
            files=tuple(files) if order.files else (files[0],), psnr_db=self.psnr_db, max_difference=5, factor=32
        )

    def request(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        async def asked() -> httpx.Response:
            transport = httpx.ASGITransport(app=self.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                return await client.request(method, path, **arguments)

        return asyncio.run(asked())

    def post(self, accept: str = "*/*", id_: str = ID, **body: Any) -> httpx.Response:
        content = json.dumps({"user": "me", **body})
        return self.request("POST", f"/v1/latents/{id_}/decode", content=content, headers={**JSON, "accept": accept})

    def get(self, components: str | None, accept: str | None = None, id_: str = ID, **query: Any) -> httpx.Response:
        asked = {"user": "me", **({} if components is None else {"components": components}), **query}
        headers = {} if accept is None else {"accept": accept}
        return self.request("GET", f"/v1/latents/{id_}/compare", params=asked, headers=headers)


@pytest.fixture
def server(live: LiveModel) -> Server:
    return Server(live)


def picture_of(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content))


def test_a_decoded_picture_is_answered_as_a_drawn_one(server: Server) -> None:
    response = server.post(components={"vae_decoder": "toy.vae_decoder/2"})
    assert response.status_code == 200
    answer = response.json()
    assert (answer["model"], answer["size"], answer["output_format"], answer["seed"]) == ("toy", "64x64", "png", 7)
    assert (answer["prompt_truncated"], answer["negative_prompt_truncated"]) == (True, False)
    [one] = answer["data"]
    assert (one["seed"], one["subseed"], one["fallback"]) == (7, 9, None)
    assert picture_of(base64.b64decode(one["b64_json"])).getpixel((0, 0)) == (2, 2, 2)
    assert answer["components"]["vae_decoder"]["version"] == 2
    assert answer["components"]["denoiser"]["version"] == 1
    assert "vae_decoder=toy.vae_decoder/2" in response.headers["x-component-versions"]
    assert (response.headers["x-seed"], response.headers["x-truncated"]) == ("7", "true")


@pytest.mark.parametrize(("accept", "kind"), [("image/png", "PNG"), ("image/jpeg", "JPEG"), ("image/webp", "WEBP")])
def test_the_picture_itself(server: Server, accept: str, kind: str) -> None:
    response = server.post(accept)
    assert response.headers["content-type"] == accept
    assert picture_of(response.content).format == kind
    assert "vae_decoder=toy.vae_decoder/1" in response.headers["x-component-versions"]


def test_without_a_choice_the_first_version_decodes(server: Server) -> None:
    bodies: tuple[dict[str, Any], ...] = (
        {},
        {"components": None},
        {"components": {}},
        {"components": {"vae_decoder": None}},
    )
    for body in bodies:
        assert server.post(**body).status_code == 200
    assert {order.decoder for order in server.orders} == {server.live.pins[Kind.VAE_DECODER]}
    assert server.asked == [], "it has served already: nobody is asked whether it may"


def test_a_version_that_cannot_be_opened_is_named(server: Server, serve_log: pytest.LogCaptureFixture) -> None:
    error = StartError("toy.vae_decoder/1: the registry at http://mlflow.internal cannot be reached")
    server.fails = RayTaskError("decode", "a stack", error).as_instanceof_cause()
    response = server.post()
    said = error_of(response, 503)
    assert (said["message"], said["code"], response.headers["retry-after"]) == (
        "toy.vae_decoder/1 cannot be opened just now; try again later",
        "unavailable",
        "3",
    )
    assert serve_log.messages == [f"request failed: {error.message}"]


def test_how_it_is_written_is_the_callers_choice(server: Server) -> None:
    assert server.post(output_format="webp", output_compression=40).json()["output_format"] == "webp"
    assert server.orders[0].encoding == Encoding("webp", 40)
    assert error_of(server.post("image/png", output_format="jpeg"), 422)["param"] == "output_format"
    assert error_of(server.post(output_compression=40), 422)["param"] == "output_compression"
    assert error_of(server.post(output_format="gif"), 422)["param"] == "output_format"
    error_of(server.post("text/html"), 406)


def test_the_fallback_that_made_it_is_told(server: Server) -> None:
    server.fallback_pin = server.live.pins[Kind.VAE_DECODER].model_copy(update={"version": 5})
    response = server.post(components={"vae_decoder": "toy.vae_decoder/2"})
    assert response.json()["data"][0]["fallback"]["version"] == 5
    assert response.headers["x-fallback"] == "toy.vae_decoder/5"


def test_latents_that_are_not_there_or_anothers(server: Server) -> None:
    for response in (
        server.post(id_="other"),
        server.post(user="you"),
        server.post(user=None),
        server.get("toy.vae_decoder/1,toy.vae_decoder/2", user="you"),
        server.get("toy.vae_decoder/1,toy.vae_decoder/2", id_="other"),
    ):
        error = error_of(response, 404)
        assert (error["code"], error["param"], error["type"]) == ("latents_not_found", "id", "invalid_request_error")
    assert server.orders == []


def test_a_decoder_that_does_not_fit_is_refused_in_words(server: Server) -> None:
    refused = [
        (server.post(components={"vae_decoder": "toy.vae_decoder/3"}), "components.vae_decoder"),
        (server.get("toy.vae_decoder/1,toy.vae_decoder/3"), "components"),
    ]
    for response, field_ in refused:
        error = error_of(response, 422)
        assert error["param"] == field_
        assert "toy.vae_decoder/3 does not fit these latents" in error["message"]
        assert "latent space id: denoiser has toy, vae_decoder has other" in error["message"]
        assert "scaling_factor: denoiser has 0.5, vae_decoder has 0.25" in error["message"]
    assert server.orders == []


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"components": {"vae_decoder": "toy.denoiser/1"}}, "components.vae_decoder"),
        ({"components": {"vae_decoder": 3}}, "components.vae_decoder"),
        ({"components": {"denoiser": "toy.denoiser/1"}}, "components.denoiser"),
        ({"components": "toy.vae_decoder/1"}, "components"),
        ({"prompt": CANARY}, "prompt"),
        ({"user": 7}, "user"),
        ({"user": CANARY * 100}, "user"),
        ({"output_compression": 101}, "output_compression"),
    ],
)
def test_fields_that_are_none(server: Server, body: dict[str, Any], param: str) -> None:
    response = server.post(**body)
    assert error_of(response, 422)["param"] == param
    assert CANARY not in response.text


def test_a_body_that_is_none(server: Server) -> None:
    path = f"/v1/latents/{ID}/decode"
    assert error_of(server.request("POST", path, content=b"{", headers=JSON), 400)["code"] == "invalid_json"
    error_of(server.request("POST", path, content=b"{}"), 415)
    error_of(server.request("POST", path, content=b" " * 2**21, headers=JSON), 413)
    error_of(server.request("GET", path), 405)


def test_two_versions_side_by_side(server: Server) -> None:
    response = server.get("toy.vae_decoder/1,toy.vae_decoder/2")
    assert (response.status_code, response.headers["content-type"]) == (200, "image/png")
    assert picture_of(response.content).format == "PNG"
    assert response.headers["x-psnr-db"] == "41.27"
    assert (response.headers["x-max-difference"], response.headers["x-difference-factor"]) == ("5", "32")
    versions = response.headers["x-component-versions"]
    assert "vae_decoder=toy.vae_decoder/1" in versions
    assert "vae_decoder=toy.vae_decoder/2" in versions
    assert "denoiser=toy.denoiser/1" in versions
    [order] = server.orders
    assert ([pin.version for pin in order.decoders], order.files) == ([1, 2], False)


def test_two_versions_in_json(server: Server) -> None:
    answer = server.get("toy.vae_decoder/1, toy.vae_decoder/2", "application/json").json()
    assert (answer["identical"], answer["psnr_db"], answer["max_difference"], answer["seed"]) == (False, 41.268, 5, 7)
    for one, version in zip(answer["data"], (1, 2), strict=True):
        assert one["vae_decoder"]["version"] == version
        assert picture_of(base64.b64decode(one["b64_json"])).getpixel((0, 0)) == (version,) * 3
    assert answer["components"].keys() == server.live.pins.keys() - {Kind.VAE_DECODER}
    server.psnr_db = math.inf
    response = server.get("toy.vae_decoder/1,toy.vae_decoder/1", "application/json")
    assert (response.json()["identical"], response.json()["psnr_db"]) == (True, None)
    assert response.headers["x-psnr-db"] == "inf"


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        (None, "image/png"),
        ("*/*", "image/png"),
        ("text/html,image/avif,image/webp,*/*;q=0.8", "image/png"),
        ("image/*", "image/png"),
        ("application/json, */*;q=0.1", "application/json"),
        ("application/json;q=0.5, image/png;q=0.4", "application/json"),
        ("application/json;q=0.4, image/png;q=0.5", "image/png"),
    ],
)
def test_whom_anything_will_do_for_gets_something_to_look_at(server: Server, accept: str | None, kind: str) -> None:
    response = server.get("toy.vae_decoder/1,toy.vae_decoder/2", accept)
    assert response.headers["content-type"] == kind


@pytest.mark.parametrize("accept", ["image/webp", "text/html", "image/png;q=0"])
def test_a_comparison_has_two_forms(server: Server, accept: str) -> None:
    error = error_of(server.get("toy.vae_decoder/1,toy.vae_decoder/2", accept), 406)
    assert error["code"] == "not_acceptable"


@pytest.mark.parametrize("components", [None, "", "toy.vae_decoder/1", "a,b,c", "toy.vae_decoder/1,"])
def test_a_comparison_is_of_two(server: Server, components: str | None) -> None:
    error = error_of(server.get(components), 422)
    assert error["param"] == "components"
    assert "must have two" in error["message"]


def test_a_query_has_known_fields_once(server: Server) -> None:
    assert error_of(server.get("toy.vae_decoder/1,toy.vae_decoder/2", seed=1), 422)["param"] == "seed"
    path = f"/v1/latents/{ID}/compare?user={CANARY}&user=me&components=a,b"
    response = server.request("GET", path)
    assert error_of(response, 422)["param"] == "user"
    assert CANARY not in response.text
    error_of(server.get("toy.vae_decoder/1,toy.vae_decoder/2", user=CANARY * 100), 422)


def test_they_count_among_the_pictures_that_wait(server: Server) -> None:
    with server.admission.admitted(1, ANYBODY):
        assert server.post(components={"vae_decoder": "toy.vae_decoder/2"}).status_code == 200
        error_of(server.get("toy.vae_decoder/1,toy.vae_decoder/2"), 429)
    with server.admission.admitted(2, ANYBODY):
        error_of(server.post(components={"vae_decoder": "toy.vae_decoder/2"}), 429)
        refused = server.post(components={"vae_decoder": "toy.denoiser/1"})
        assert error_of(refused, 422)["param"] == "components.vae_decoder"
        assert error_of(server.get("toy.vae_decoder/1,nonsense"), 422)["param"] == "components"
    assert server.asked == [("toy.vae_decoder/2", 2)], "versions are asked for within the bound"
    assert server.admission.images == 0


def test_a_version_that_makes_no_picture_is_told(server: Server) -> None:
    pin = server.live.pins[Kind.VAE_DECODER]
    server.fails = NonFiniteImageError(f"{pin} gave pixels that are not finite", pin)
    for response in (server.post(), server.get("toy.vae_decoder/1,toy.vae_decoder/2")):
        error = error_of(response, 500)
        assert (error["code"], error["type"]) == ("non_finite_image", "server_error")
        assert str(pin) in error["message"]
    assert server.admission.images == 0


def test_the_document_describes_it(server: Server) -> None:
    document = server.request("GET", "/openapi.json").json()
    schemas = document["components"]["schemas"]
    text = json.dumps(document)
    for name in {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}:
        assert name in schemas
    decode = document["paths"]["/v1/latents/{id}/decode"]["post"]
    assert decode["requestBody"]["content"]["application/json"]["schema"]["$ref"].endswith("/DecodeBody")
    compare = document["paths"]["/v1/latents/{id}/compare"]["get"]
    assert {parameter["name"] for parameter in compare["parameters"]} == {"id", "components", "user"}
    assert "#/$defs" not in text
