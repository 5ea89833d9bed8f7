"""What an answer tells of its place in the queue and of where the time went."""

import re
from collections.abc import AsyncIterator
from dataclasses import asdict, replace
from typing import Any

import pytest
from openai import OpenAI

from services.messages import Drawn, Order, Progress, Queued, StageTimes
from tests.services.ingress.conftest import draw_at_once, listening, watch_at_once
from tests.services.ingress.http.test_streaming import streamed

Server = Any
TIMES = StageTimes(
    text_encoder_s=0.01,
    vae_encoder_s=None,
    queued_s=0.0,
    denoiser_s=1.5,
    vae_decoder_s=0.25,
    file_s=0.001,
    total_s=1.8,
)
LONGER = replace(TIMES, total_s=2.5, queued_s=0.7)


def timed(drawn: Drawn) -> Drawn:
    pictures = [replace(one, times=times) for one, times in zip(drawn.pictures, (TIMES, LONGER), strict=False)]
    return replace(drawn, pictures=tuple(pictures))


async def draw(order: Order) -> Drawn:
    return timed(await draw_at_once(order))


async def watch(order: Order, every: int) -> AsyncIterator[Progress | Queued | Drawn]:
    for image in range(order.request.n):
        yield Queued(image, 2 + image)
    yield Queued(0, 1)
    async for news in watch_at_once(order, every):
        yield timed(news) if isinstance(news, Drawn) else news


@pytest.fixture(autouse=True)
def tells(server: Server) -> None:
    server.draw, server.watch = draw, watch


def test_every_picture_tells_where_its_time_went(server: Server) -> None:
    answer = server.generate(prompt="a red apple", n=2).json()
    assert [one["timings"] for one in answer["data"]] == [asdict(TIMES), asdict(LONGER)]
    completed = [data for type_, data in streamed(server, n=2) if type_.endswith("completed")]
    assert [one["timings"] for one in completed] == [asdict(TIMES), asdict(LONGER)]


def test_a_picture_alone_tells_it_in_a_header(server: Server) -> None:
    headers = {"accept": "image/png"}
    told = server.request("POST", "/v1/images/generations", json={"prompt": "a"}, headers=headers).headers[
        "server-timing"
    ]
    assert all(re.fullmatch(r"[!#-'*+.^_`|~\w-]+;dur=\d+(\.\d+)?", part) for part in told.split(", "))
    assert told == (
        "text_encoder;dur=10.0, queued;dur=0.0, denoiser;dur=1500.0, vae_decoder;dur=250.0, file;dur=1.0, "
        "total;dur=1800.0"
    )


def test_the_header_is_that_of_the_picture_that_came_last(server: Server) -> None:
    assert "total;dur=2500.0" in server.generate(prompt="a", n=2).headers["server-timing"]


def test_places_in_the_queue_are_told_with_the_progress(server: Server) -> None:
    events = streamed(server, n=2, progress=True, steps=2)
    queued = [data for type_, data in events if type_ == "image_generation.queued"]
    assert [(one["image_index"], one["position"]) for one in queued] == [(0, 2), (1, 3), (0, 1)]
    assert [data["type"] for _, data in events][:3] == ["image_generation.queued"] * 3
    assert not [type_ for type_, _ in streamed(server, n=2, partial_images=1, steps=2) if "queued" in type_]


def test_openais_client_goes_over_it(server: Server) -> None:
    with listening(server) as url, OpenAI(base_url=f"{url}/v1", api_key="none") as client:
        stream = client.images.generate(
            prompt="a red apple", stream=True, partial_images=1, extra_body={"progress": True, "steps": 3}
        )
        assert [event.type.split(".")[1] for event in stream if "b64_json" in event.model_fields_set] == [
            "partial_image",
            "completed",
        ]
