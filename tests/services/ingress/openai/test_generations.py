"""The images face on a graph that draws at once: forms of answers, and everything that is refused."""

import asyncio
import base64
import io
import json
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Any

import pytest
from PIL import Image
from ray.exceptions import ActorDiedError, TaskCancelledError

from components.contract import PARTS, Kind
from pipeline.errors import RequestError
from pipeline.request import RequestFields
from services.errors import DeadlineExceededError, GivenUpError, OverloadedError, ServingError
from services.ingress.http.body import MAX_PICTURES_BYTES
from services.keys.keyring import ANYBODY
from services.messages import Drawn, Order, Picture, Progress
from tests.services.ingress.conftest import GENERATIONS, error_of

Server = Any
JSON = {"content-type": "application/json"}
CANARY = "canary-7f3a"


def test_json_answer(server: Server) -> None:
    response = server.generate(prompt="a red apple", seed=7, n=2)
    assert response.status_code == 200
    answer = response.json()
    assert [(one["seed"], one["subseed"]) for one in answer["data"]] == [(7, None), (8, None)]
    assert (answer["seed"], answer["size"], answer["output_format"], answer["model"]) == (7, "64x64", "png", "toy")
    assert answer["components"]["vae_decoder"] == {"name": "toy.vae_decoder", "version": 1, "sha256": f"{2:064x}"}
    assert answer["components"].keys() == set(PARTS)
    picture = Image.open(io.BytesIO(base64.b64decode(answer["data"][1]["b64_json"])))
    assert (picture.format, picture.size, picture.getpixel((0, 0))) == ("PNG", (64, 64), (8, 8, 8))
    assert "vae_decoder=toy.vae_decoder/1" in response.headers["x-component-versions"]
    assert (answer["quality"], answer["background"]) == ("medium", "opaque")


def test_usage_counts_the_texts_and_the_latent_pixels(server: Server) -> None:
    body: dict[str, Any] = {"prompt": "a red apple", "negative_prompt": "a boat", "size": "128x64"}
    assert server.generate(**body, n=3).json()["usage"] == {
        "input_tokens": 5,
        "output_tokens": 3 * 16 * 8,
        "total_tokens": 5 + 3 * 16 * 8,
        "input_tokens_details": {"text_tokens": 5, "image_tokens": 0},
        "output_tokens_details": {"image_tokens": 3 * 16 * 8, "text_tokens": 0},
    }
    # with guidance 1 nobody reads the negative prompt
    assert server.generate(**body, guidance=1).json()["usage"]["input_tokens"] == 3


@pytest.mark.parametrize(("accept", "kind"), [("image/png", "PNG"), ("image/jpeg", "JPEG"), ("image/webp", "WEBP")])
def test_raw_picture(server: Server, accept: str, kind: str) -> None:
    response = server.generate(accept, prompt="a red apple", seed=0)
    assert response.status_code == 200
    assert response.headers["content-type"] == accept
    assert Image.open(io.BytesIO(response.content)).format == kind
    assert response.headers["x-seed"] == "0"
    assert "x-subseed" not in response.headers
    assert response.headers["x-truncated"] == "false"
    assert "denoiser=toy.denoiser/1" in response.headers["x-component-versions"]


def test_any_picture_comes_in_the_output_format(server: Server) -> None:
    response = server.generate("image/*", prompt="a red apple", output_format="webp", output_compression=40)
    assert response.headers["content-type"] == "image/webp"
    assert server.orders[0].encoding.quality == 40


def test_truncation_is_told(server: Server) -> None:
    answer = server.generate(prompt="one two three four five six", negative_prompt="a").json()
    assert (answer["prompt_truncated"], answer["negative_prompt_truncated"]) == (True, False)


def test_unknown_model(server: Server) -> None:
    error = error_of(server.generate(prompt="a", model="dall-e-3"), 404)
    assert (error["param"], error["code"]) == ("model", "model_not_found")


def test_a_raw_answer_holds_one_picture(server: Server) -> None:
    assert error_of(server.generate("image/png", prompt="a", n=2), 422)["param"] == "n"
    refused = error_of(server.generate("image/png", prompt="a", output_format="jpeg"), 422)
    assert refused["param"] == "output_format"
    assert error_of(server.generate("text/html", prompt="a"), 406)["code"] == "not_acceptable"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'"prompt"',
        b"null",
        b'{"prompt": "a", "prompt": "b"}',
        b'{"prompt": "a", "guidance": NaN}',
        b'{"prompt": "a", "guidance": -Infinity}',
        b'{"prompt": "a", "guidance": 1e400}',
        b'{"prompt": "a", "deadline_s": NaN}',
        b'{"prompt": "a", "guidance_rescale": Infinity}',
        b'{"prompt": "a", "seed": ' + b"9" * 5000 + b"}",
        b"\xef\xbb\xbf" + b'{"prompt": "a"}',
        b'{"prompt": "\xff\xfe"}',
        b'{"prompt": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        '{"prompt": "a"}'.encode("utf-16"),
    ],
)
def test_what_is_no_json_object(server: Server, body: bytes) -> None:
    error = error_of(server.request("POST", GENERATIONS, content=body, headers=JSON), 400)
    assert error["code"] == "invalid_json"
    assert server.generate(prompt="a").status_code == 200


@pytest.mark.parametrize(
    "content_type", [None, "text/plain", "application/json; charset=latin-1", "multipart/form-data"]
)
def test_wrong_content_type(server: Server, content_type: str | None) -> None:
    headers = {} if content_type is None else {"content-type": content_type}
    error_of(server.request("POST", GENERATIONS, content=b'{"prompt": "a"}', headers=headers), 415)


def test_long_bodies_are_not_read_to_the_end(server: Server) -> None:
    sent = 0

    async def endless() -> Any:
        nonlocal sent
        while True:
            sent += 2**16
            yield b" " * 2**16

    error = error_of(server.request("POST", GENERATIONS, content=endless(), headers=JSON), 413)
    assert error["code"] == "request_too_large"
    # as long as one with pictures may be, and no more
    assert sent < MAX_PICTURES_BYTES + 2**20
    announced = {**JSON, "content-length": "9" * 30}
    error_of(server.request("POST", GENERATIONS, content=b"{}", headers=announced), 413)


def test_unknown_routes_and_methods(server: Server) -> None:
    assert error_of(server.request("GET", "/v1/nothing"), 404)["code"] == "not_found"
    error_of(server.request("GET", "/v1/models/"), 404)
    response = server.request("GET", GENERATIONS)
    assert error_of(response, 405)["code"] == "method_not_allowed"
    assert response.headers["allow"] == "POST"


def test_too_much_at_a_time_is_refused(server: Server) -> None:
    async def overlapping() -> tuple[Any, Any]:
        begun, free = asyncio.Event(), asyncio.Event()

        async def slowly(_order: Order) -> Drawn:
            begun.set()
            await free.wait()
            return Drawn((Picture(b"", 0),), False, False)

        server.draw = slowly
        body = json.dumps({"prompt": "a", "n": 4})
        first = asyncio.create_task(server.arequest("POST", GENERATIONS, content=body, headers=JSON))
        await begun.wait()
        second = await server.arequest("POST", GENERATIONS, content=body, headers=JSON)
        free.set()
        return await first, second

    first, second = asyncio.run(overlapping())
    assert first.status_code == 200
    error = error_of(second, 429)
    assert (error["type"], second.headers["retry-after"]) == ("rate_limit_error", "3")
    assert server.admission.images == 0


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"steps": 0}, "steps"),
        ({"n": 16384}, "n"),
        ({"output_format": "webp", "output_compression": 101}, "output_compression"),
        ({"deadline_s": -1}, "deadline_s"),
        ({"components": {"text_encoder": "toy.text_encoder/1", "vae_decoder": "nonsense"}}, "components.vae_decoder"),
        ({"components": {"denoiser": "toy.vae_decoder/1"}}, "components.denoiser"),
        ({"components": {"denoiser": "toy.denoiser/1"}, "n": 0}, "n"),
    ],
)
def test_a_wrong_field_is_refused_before_anybody_is_asked_and_however_full_it_is(
    server: Server, body: dict[str, Any], param: str
) -> None:
    with server.admission.admitted(4, ANYBODY):
        asking = {"components": {"vae_decoder": "toy.vae_decoder/9"}, **body}
        assert error_of(server.generate(prompt="a", **asking), 422)["param"] == param
    assert server.controller.asked == []


def test_the_controller_is_asked_within_the_bound_alone(server: Server) -> None:
    async def overlapping() -> tuple[Any, Any]:
        server.controller.answers = asyncio.Event()
        body = json.dumps({"prompt": "a", "n": 4, "components": {"vae_decoder": "toy.vae_decoder/9"}})
        first = asyncio.create_task(server.arequest("POST", GENERATIONS, content=body, headers=JSON))
        while not server.controller.asked:
            await asyncio.sleep(0)
        second = await server.arequest("POST", GENERATIONS, content=body, headers=JSON)
        server.controller.answers.set()
        return await first, second

    first, second = asyncio.run(overlapping())
    assert error_of(first, 422)["param"] == "components.vae_decoder"
    error_of(second, 429)
    assert (server.controller.asked, server.admission.images) == (["toy.vae_decoder/9"], 0)


def test_another_denoiser_has_limits_of_its_own(server: Server) -> None:
    live = server.pinning.record.live
    finer = live.contracts[Kind.DENOISER].model_copy(update={"latent_multiple": 1})
    server.controller.versions["toy.denoiser/2"] = (live.pins[Kind.DENOISER], finer)
    assert error_of(server.generate(prompt="a", size="72x64"), 422)["param"] == "size"
    assert server.generate(prompt="a", size="72x64", components={"denoiser": "toy.denoiser/2"}).status_code == 200
    assert server.orders[0].request.width == 72
    refused = server.generate(prompt="a", size="100x64", components={"denoiser": "toy.denoiser/2"})
    assert error_of(refused, 422)["param"] == "size"
    assert server.admission.images == 0


@pytest.mark.parametrize(
    ("raised", "status", "said", "logged"),
    [
        (KeyError(CANARY), 500, "our side", ["request failed: KeyError"]),
        (
            ServingError("denoiser: something went wrong"),
            500,
            "denoiser",
            ["request failed: denoiser: something went wrong"],
        ),
        (RequestError("steps", "steps=3: must be even"), 422, "even", []),
        (OverloadedError("as much work waits as may wait; try again later", 17), 429, "as much work waits", []),
        (DeadlineExceededError("deadline_s=3: has passed after 4 of 9 steps", "deadline_s"), 504, "4 of 9", []),
        (
            GivenUpError("2 replicas of the denoiser stopped"),
            500,
            "2 replicas of the denoiser",
            ["request failed: 2 replicas of the denoiser stopped"],
        ),
    ],
)
def test_failures_while_drawing(
    server: Server, raised: Exception, status: int, said: str, logged: list[str], serve_log: pytest.LogCaptureFixture
) -> None:
    async def fail(_order: Order) -> Drawn:
        raise raised

    server.draw = fail
    error = error_of(server.generate(prompt=CANARY), status)
    assert said in error["message"]
    assert CANARY not in json.dumps(error) + serve_log.text
    assert serve_log.messages == logged
    assert server.admission.images == 0
    server.draw = None
    assert server.generate(prompt="a").status_code == 200


@pytest.mark.parametrize(
    ("raised", "kind", "code", "param", "retry_after"),
    [
        (OverloadedError("as much work waits as may wait", 17), "rate_limit_error", "overloaded", None, "17"),
        (OverloadedError("as much work waits as may wait"), "rate_limit_error", "overloaded", None, "3"),
        (
            DeadlineExceededError("deadline_s=3: cannot be met", "deadline_s"),
            "timeout_error",
            "deadline_exceeded",
            "deadline_s",
            None,
        ),
        (GivenUpError("2 replicas of the denoiser stopped"), "server_error", "given_up", None, None),
    ],
    ids=["overloaded", "overloaded, nothing measured", "deadline", "given up"],
)
def test_what_the_denoiser_says_reaches_the_caller(
    server: Server, raised: Exception, kind: str, code: str, param: str | None, retry_after: str | None
) -> None:
    async def fail(_order: Order) -> Drawn:
        raise raised

    server.draw = fail
    response = server.generate(prompt="a")
    error = response.json()["error"]
    assert (error["type"], error["code"], error["param"]) == (kind, code, param)
    assert response.headers.get("retry-after") == retry_after


# what ASGI says of a client that went away, and what Serve's proxy and its death make of it
@pytest.mark.parametrize("end", [{"type": "http.disconnect"}, TaskCancelledError(), ActorDiedError()])
@pytest.mark.parametrize(
    ("body", "more", "first"),
    [(b'{"prompt": ', True, []), (b'{"prompt": "a", "stream": true, "progress": true}', False, [HTTPStatus.OK])],
)
def test_a_client_that_goes_away_is_counted_and_nothing_more(
    body: bytes,
    more: bool,
    first: list[int],
    end: dict[str, Any] | Exception,
    server: Server,
    serve_log: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counted: list[dict[str, str]] = []
    monkeypatch.setattr(server.metrics.requests, "inc", lambda tags: counted.append(tags))
    sent: list[Any] = []
    scope = {
        "type": "http",
        "method": "POST",
        "path": GENERATIONS,
        "query_string": b"",
        "headers": [(b"content-type", b"application/json")],
    }
    arriving = iter([{"type": "http.request", "body": body, "more_body": more}, end])

    async def receive() -> Any:
        message = next(arriving)
        if message is end:
            # it leaves once the answer has begun, if one does while it is there
            while len(sent) < len(first):
                await asyncio.sleep(0)
        if isinstance(message, Exception):
            raise message
        return message

    async def send(message: Any) -> None:
        sent.append(message)

    async def endless(_order: Order, _every: int) -> AsyncIterator[Progress | Drawn]:
        while True:
            yield Progress(0, 0, 2, None)
            await asyncio.sleep(0.01)

    server.watch = endless
    asyncio.run(server.app(scope, receive, send))
    assert counted == [{"route": GENERATIONS, "method": "POST", "status": "499"}]
    assert [message["status"] for message in sent if "status" in message] == first
    assert serve_log.messages == []


def test_no_answer_quotes_the_prompt_or_the_user(server: Server) -> None:
    for body in (
        {"prompt": CANARY, "n": 0},
        {"prompt": [CANARY]},
        {"prompt": "a", "negative_prompt": {CANARY: 1}},
        {"prompt": "a", "user": [CANARY]},
        {"prompt": "a", "user": CANARY * 50},
    ):
        assert CANARY not in server.generate(**body).text


def test_models(server: Server) -> None:
    listed = server.request("GET", "/v1/models").json()
    assert listed["object"] == "list"
    assert [one["id"] for one in listed["data"]] == ["toy"]


def test_openapi_describes_the_body(server: Server) -> None:
    document = server.request("GET", "/openapi.json").json()
    route = document["paths"][GENERATIONS]["post"]
    reference = route["requestBody"]["content"]["application/json"]["schema"]["$ref"].rsplit("/", 1)[1]
    schema = document["components"]["schemas"][reference]
    assert schema["required"] == ["prompt"]
    assert schema["examples"][0]["prompt"]
    edits_alone = {"depth", "image", "mask", "mask_blur", "padding_mask_crop", "strength"}
    for name in set(RequestFields.__dataclass_fields__) - {"prompt", "width", "height"} - edits_alone:
        assert schema["properties"][name]["description"], name
    events = route["responses"]["200"]["content"]["text/event-stream"]["schema"]["oneOf"]
    for one in events:
        assert document["components"]["schemas"][one["$ref"].rsplit("/", 1)[1]]["properties"]
    assert {"200", "400", "404", "413", "415", "422", "429", "503", "504"} <= route["responses"].keys()
    assert server.request("GET", "/docs").status_code == 200
