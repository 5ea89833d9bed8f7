"""The inspection face: what it finds in pictures of ours and others', and everything that it refuses."""

import asyncio
import base64
import io
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from components.contract import Kind
from components.reference import ComponentRef
from services.encoding import describe
from services.errors import ServingError
from services.ingress.app import create_app
from services.ingress.http.multipart import Uploads
from services.ingress.stories.inspect import InspectFace
from services.ingress.stories.schemas import Inspection
from services.messages import OVERRIDABLE, Drawn, LiveModel, Order, Picture
from services.metrics.ingress import IngressMetrics
from tests.services.ingress.conftest import GENERATIONS, Server, draw_at_once, error_of

PATH = "/v1/inspect"
A1111 = "an owl\nNegative prompt: b\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 64x64, Clip skip: 2"
MOST_BYTES = 2**25


@pytest.fixture
def app() -> FastAPI:
    return create_app([InspectFace(Uploads())], IngressMetrics(), 3)


def send(app: FastAPI, **arguments: Any) -> httpx.Response:
    async def asked() -> httpx.Response:
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.post(PATH, **arguments)

    return asyncio.run(asked())


def inspect(app: FastAPI, data: bytes, content_type: str = "image/png") -> httpx.Response:
    return send(app, content=data, headers={"content-type": content_type})


def owl() -> bytes:
    texts = PngInfo()
    texts.add_text("parameters", A1111)
    out = io.BytesIO()
    Image.new("RGB", (8, 8)).save(out, "PNG", pnginfo=texts)
    return out.getvalue()


def asked_for_by_version(server: Server, live: LiveModel) -> None:
    for kind in (kind for kind in OVERRIDABLE if kind in live.pins):
        server.controller.versions[str(live.pins[kind])] = (live.pins[kind], live.contracts[kind])


@pytest.mark.parametrize("form", ["png", "jpeg", "webp"])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {
            "negative_prompt": "dark",
            "guidance_rescale": 0.7,
            "guidance_start": 0.25,
            "guidance_end": 0.75,
            "adaptive_guidance": 0.99,
            "sampler": "DPM++ 2M",
            "schedule": "karras",
            "rng": "philox",
            "subseed_strength": 0.25,
            "size": "128x64",
        },
        {"sampler": "tcd", "eta": 0.0, "guidance": 0},
    ],
)
def test_the_request_it_gives_makes_the_same_file(
    server: Server, app: FastAPI, live: LiveModel, form: str, settings: dict[str, Any]
) -> None:
    prompt = "a bôat, \N{RED APPLE}\nNegative prompt: c\nSteps: 1, Seed: 2, Size: 8x8"
    accept = f"image/{form}"
    first = server.generate(accept, prompt=prompt, **settings)
    assert first.status_code == 200, first.text
    response = inspect(app, first.content, accept)
    assert response.status_code == 200, response.text
    said = response.json()
    assert Inspection.model_validate(said, strict=True)
    assert (said["source"], said["model"], said["unknown"], said["fallback_for"]) == ("latentworks", "toy", [], None)
    assert said["components"] == {kind.value: pin.model_dump() for kind, pin in live.pins.items()}
    assert said["parameters"].startswith(f"{prompt}\n")
    assert said["request"]["prompt"] == prompt
    asked_for_by_version(server, live)
    again = server.generate(accept, **said["request"])
    assert again.status_code == 200, again.text
    assert again.content == first.content
    assert server.orders[0].request == server.orders[1].request


def test_each_picture_of_several_tells_of_itself_alone(server: Server, app: FastAPI, live: LiveModel) -> None:
    answer = server.generate(prompt="a", n=3, seed=7).json()
    asked_for_by_version(server, live)
    for number, one in enumerate(answer["data"]):
        data = base64.b64decode(one["b64_json"])
        request = inspect(app, data).json()["request"]
        assert request["seed"] == 7 + number
        assert server.generate("image/png", **request).content == data


def test_the_fallback_that_made_it(server: Server, app: FastAPI, live: LiveModel) -> None:
    other = live.pins[Kind.VAE_DECODER].model_copy(update={"version": 9})

    async def draw(order: Order) -> Drawn:
        drawn = await draw_at_once(replace(order, pins={**order.pins, Kind.VAE_DECODER: other}))
        data = drawn.pictures[0].data
        assert describe(order.request, order.pins, other).fallback_for == live.pins[Kind.VAE_DECODER]
        return Drawn((Picture(data, 1, decoder=other),), False, False)

    server.draw = draw
    said = inspect(app, server.generate("image/png", prompt="a").content).json()
    assert said["request"]["components"]["vae_decoder"] == "toy.vae_decoder/9"
    assert ComponentRef(**said["components"]["vae_decoder"]) == other


@pytest.mark.parametrize("content_type", ["image/png", "IMAGE/PNG; a=b", "image/webp"])
def test_another_programs_picture(app: FastAPI, content_type: str) -> None:
    """The bytes say what they are; the header only that they are a picture."""
    said = inspect(app, owl(), content_type).json()
    assert said == {
        "source": "a1111",
        "model": None,
        "parameters": A1111,
        "request": {
            "prompt": "an owl",
            "negative_prompt": "b",
            "weighting": "a1111",
            "clip_skip": 2,
            "steps": 20,
            "guidance": 7.0,
            "sampler": "euler_ancestral",
            "rng": "philox",
            "seed": 1,
            "size": "64x64",
        },
        "components": {},
        "beside": [],
        "fallback_for": None,
        "made_from": None,
        "unknown": [],
    }


def test_another_programs_picture_can_be_drawn(server: Server, app: FastAPI) -> None:
    request = inspect(app, owl()).json()["request"]
    assert server.generate("image/png", **request).status_code == 200
    made = server.orders[0].request
    assert (made.prompt, made.sampler, made.seed, made.rng) == ("an owl", "euler_ancestral", 1, "philox")


def test_a_picture_that_says_nothing(app: FastAPI) -> None:
    out = io.BytesIO()
    Image.new("RGB", (8, 8)).save(out, "JPEG")
    said = inspect(app, out.getvalue(), "image/jpeg").json()
    assert (said["source"], said["parameters"], said["request"], said["unknown"]) == ("nothing", None, {}, [])


def test_a_form_with_a_picture(app: FastAPI) -> None:
    said = send(app, files={"image": ("owl.png", owl(), "image/png")}).json()
    assert said == inspect(app, owl()).json()
    large = owl() + bytes(MOST_BYTES - len(owl()))
    assert send(app, files={"image": ("owl.png", large, "image/png")}).json() == said


@pytest.mark.parametrize(
    ("files", "status", "param"),
    [
        ({"picture": ("owl.png", owl(), "image/png")}, 422, "picture"),
        ({"image": ("owl.png", b"no picture", "image/png")}, 422, "image"),
        ({"image": ("owl.png", owl()), "other": ("owl.png", owl())}, 400, None),
        ({"image": (None, b"a field")}, 422, "image"),
        ({"image": ("owl.png", owl()), "seed": (None, b"7")}, 422, "seed"),
        ({}, 415, None),
    ],
)
def test_other_forms_are_refused(app: FastAPI, files: dict[str, Any], status: int, param: str | None) -> None:
    assert error_of(send(app, files=files), status)["param"] == param


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("multipart/form-data", b"x"),
        ("multipart/form-data; boundary=a", b"no form"),
        ("multipart/form-data; boundary=a", b'--a\r\nContent-Disposition: form-data; name="image"; filename="b"\r\n'),
        ("multipart/form-data; boundary=" + "a" * 5000, b"--a"),
        ("multipart/form-data; boundary=a; charset=hex", b'--a\r\nContent-Disposition: form-data; name="\xff"\r\n\r\n'),
        ("multipart/form-data; boundary=a", b"--a\r\nContent-Disposition: nothing\r\n\r\na\r\n--a--\r\n"),
    ],
)
def test_a_body_that_is_no_form(app: FastAPI, content_type: str, body: bytes) -> None:
    response = inspect(app, body, content_type)
    assert response.status_code in (400, 422), response.text
    error_of(response, response.status_code)


@pytest.mark.parametrize("content_type", ["", "application/json", "image/gif", "text/plain", "image", "image/"])
def test_bodies_of_other_types(app: FastAPI, content_type: str) -> None:
    error = error_of(inspect(app, owl(), content_type), 415)
    assert error["code"] == "unsupported_media_type"
    assert "image/png" in error["message"]


@pytest.mark.parametrize("data", [b"", b"GIF89a" + bytes(100), b"a secret text"])
def test_what_is_no_picture(app: FastAPI, data: bytes) -> None:
    error = error_of(inspect(app, data), 422)
    assert (error["param"], error["code"]) == ("image", "invalid_value")
    assert error["message"] == "image: must be a PNG, JPEG or WebP file"


def test_a_picture_of_too_many_bytes(app: FastAPI) -> None:
    assert inspect(app, owl() + bytes(MOST_BYTES - len(owl()))).status_code == 200
    error = error_of(inspect(app, owl() + bytes(MOST_BYTES)), 413)
    assert str(MOST_BYTES) in error["message"]

    async def endless(begin: bytes = b"") -> AsyncIterator[bytes]:
        yield begin
        while True:
            yield bytes(2**20)

    error_of(send(app, content=endless(), headers={"content-type": "image/png"}), 413)
    form = {"content-type": "multipart/form-data; boundary=a"}
    begin = b'--a\r\nContent-Disposition: form-data; name="image"; filename="b"\r\n\r\n'
    error_of(send(app, content=endless(begin), headers=form), 413)
    # what is no form is not read to its end
    error_of(send(app, content=endless(), headers=form), 400)


def test_only_so_many_are_in_memory_at_a_time(app: FastAPI) -> None:
    async def several() -> tuple[httpx.Response, list[int]]:
        begun: asyncio.Queue[None] = asyncio.Queue()
        goes_on = asyncio.Event()

        async def slow() -> AsyncIterator[bytes]:
            yield owl()
            begun.put_nowait(None)
            await goes_on.wait()

        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            headers = {"content-type": "image/png"}
            uploads = [asyncio.create_task(client.post(PATH, content=slow(), headers=headers)) for _ in range(8)]
            for _ in uploads:
                await begun.get()
            refused = await client.post(PATH, content=owl(), headers=headers)
            goes_on.set()
            statuses = [(await upload).status_code for upload in uploads]
            statuses.append((await client.post(PATH, content=owl(), headers=headers)).status_code)
            return refused, statuses

    refused, statuses = asyncio.run(several())
    assert error_of(refused, 429)["code"] == "overloaded"
    assert refused.headers["retry-after"] == "3"
    assert statuses == [200] * 9


def test_a_failure_of_ours_frees_its_place(app: FastAPI, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_data: bytes) -> None:
        raise ServingError("broken")

    with monkeypatch.context() as patch:
        patch.setattr("services.ingress.stories.inspect.read_story", fail)
        for _ in range(9):
            error_of(inspect(app, owl()), 500)
    assert inspect(app, owl()).status_code == 200


def test_the_document_describes_it(app: FastAPI) -> None:
    schema = json.loads(json.dumps(app.openapi()))
    operation = schema["paths"][PATH]["post"]
    assert set(operation["requestBody"]["content"]) == {
        "image/png",
        "image/jpeg",
        "image/webp",
        "multipart/form-data",
    }
    assert operation["responses"]["200"]["content"]["application/json"]["schema"]["$ref"].endswith("/Inspection")
    assert schema["components"]["schemas"]["Inspection"]["properties"].keys() == Inspection.model_fields.keys()
    assert GENERATIONS not in schema["paths"]
