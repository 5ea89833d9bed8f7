"""OpenAI's own Python client against the application behind a real socket."""

import asyncio
import base64
import io
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import openai
import pytest
from PIL import Image

from services.errors import GivenUpError, OverloadedError, ServingError
from services.messages import Drawn, Order, Progress
from tests.services.ingress.conftest import draw_at_once, listening

Server = Any


@pytest.fixture
def url(server: Server) -> Iterator[str]:
    with listening(server) as address:
        yield f"{address}/v1"


@pytest.fixture
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=url, api_key="none", max_retries=2) as made:
        yield made


def opened(b64_json: str | None) -> Image.Image:
    assert b64_json
    return Image.open(io.BytesIO(base64.b64decode(b64_json)))


def test_pictures_and_everything_about_them(client: openai.OpenAI) -> None:
    answer = client.images.generate(
        prompt="a red apple",
        model="toy",
        n=2,
        size="128x64",
        quality="high",
        background="auto",
        moderation="low",
        output_format="jpeg",
        output_compression=80,
        response_format="b64_json",
        user="somebody",
        extra_body={"seed": 5},
    )
    assert answer.data is not None
    assert answer.usage is not None
    assert [opened(one.b64_json).size for one in answer.data] == [(128, 64)] * 2
    assert [one.url for one in answer.data] == [None, None]
    assert (answer.quality, answer.background, answer.output_format) == ("high", "opaque", "jpeg")
    assert (answer.size, answer.usage.input_tokens_details.text_tokens) == ("128x64", 3)
    assert answer.usage.total_tokens == 3 + 2 * 16 * 8
    assert answer.model_extra is not None
    assert answer.model_extra["seed"] == 5


def test_a_link_leads_to_the_picture(client: openai.OpenAI, url: str) -> None:
    answer = client.images.generate(prompt="a", response_format="url")
    assert answer.data is not None
    [one] = answer.data
    assert one.url is not None
    assert one.b64_json is None
    assert one.url.startswith(url)
    shown = httpx.get(one.url)
    assert Image.open(io.BytesIO(shown.content)).size == (64, 64)


def test_a_stream_of_events(client: openai.OpenAI) -> None:
    with client.images.generate(
        prompt="a red apple", stream=True, partial_images=2, extra_body={"steps": 6, "seed": 7}
    ) as stream:
        events = list(stream)
    *partial, completed = events
    for index, event in enumerate(partial):
        assert event.type == "image_generation.partial_image"
        assert (event.partial_image_index, event.size, opened(event.b64_json).size) == (index, "64x64", (64, 64))
    assert len(partial) == 2
    assert completed.type == "image_generation.completed"
    assert opened(completed.b64_json).getpixel((0, 0)) == (7, 7, 7)
    assert (completed.usage.input_tokens, completed.usage.output_tokens) == (3, 64)


def test_a_stream_of_events_in_the_asynchronous_client(url: str) -> None:
    async def scenario() -> list[str]:
        async with openai.AsyncOpenAI(base_url=url, api_key="none") as client:
            answer = await client.images.generate(prompt="a")
            assert answer.data is not None
            assert opened(answer.data[0].b64_json).size == (64, 64)
            stream = await client.images.generate(prompt="a", stream=True, partial_images=1)
            return [event.type async for event in stream]

    assert asyncio.run(scenario()) == ["image_generation.partial_image", "image_generation.completed"]


def test_events_of_ours_do_not_disturb_it(client: openai.OpenAI) -> None:
    stream = client.images.generate(prompt="a", stream=True, extra_body={"progress": True, "steps": 3})
    types: list[str] = [event.type for event in stream]
    assert types == ["image_generation.progress"] * 3 + ["image_generation.completed"]


def test_comments_on_a_quiet_line_do_not_disturb_it(server: Server, client: openai.OpenAI) -> None:
    async def slowly(order: Order) -> Drawn:
        await asyncio.sleep(0.3)
        return await draw_at_once(order)

    server.draw = slowly
    assert [event.type for event in client.images.generate(prompt="a", stream=True)] == ["image_generation.completed"]


def test_an_error_within_a_stream_is_raised(server: Server, client: openai.OpenAI) -> None:
    async def fail(_order: Order, _every: int) -> AsyncIterator[Progress | Drawn]:
        yield Progress(0, 1, 25, None)
        raise ServingError("denoiser: something went wrong")

    server.watch = fail
    stream = client.images.generate(prompt="a", stream=True, extra_body={"progress": True})
    assert str(next(stream).type) == "image_generation.progress"
    with pytest.raises(openai.APIError, match="denoiser: something went wrong") as raised:
        next(stream)
    assert (raised.value.code, raised.value.type) == ("internal_error", "server_error")


def test_refusals_are_its_own_exceptions(client: openai.OpenAI) -> None:
    with pytest.raises(openai.UnprocessableEntityError) as refused:
        client.images.generate(prompt="a", style="vivid", stream=True)
    assert (refused.value.param, refused.value.code) == ("style", "invalid_value")
    with pytest.raises(openai.UnprocessableEntityError) as transparent:
        client.images.generate(prompt="a", background="transparent")
    assert transparent.value.param == "background"
    with pytest.raises(openai.NotFoundError) as missing:
        client.images.generate(prompt="a", model="dall-e-3")
    assert (missing.value.param, missing.value.code, missing.value.type) == (
        "model",
        "model_not_found",
        "invalid_request_error",
    )


@pytest.mark.parametrize(
    ("raised", "kind", "attempts"),
    [
        (OverloadedError("too much", 1), openai.RateLimitError, 2),
        (GivenUpError("2 replicas stopped"), openai.InternalServerError, 1),
    ],
)
def test_it_tries_again_what_may_work_then(
    server: Server, url: str, raised: Exception, kind: type[openai.APIStatusError], attempts: int
) -> None:
    tried: list[Order] = []

    async def fail(order: Order) -> Drawn:
        tried.append(order)
        raise raised

    server.draw = fail
    with openai.OpenAI(base_url=url, api_key="none", max_retries=1) as client, pytest.raises(kind) as told:
        client.images.generate(prompt="a")
    assert len(tried) == attempts
    assert str(raised) in told.value.message
