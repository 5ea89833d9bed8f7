"""Pictures in two passes through the graph: what goes to which stage, and what is told of it."""

import asyncio
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from ray.exceptions import ObjectLostError

from components.contract import Kind
from components.messages import Hires, Tiling
from services.graph import GraphSettings
from services.messages import Encoding, LiveModel, Order, Progress, Worked
from tests.services.test_denoiser import request
from tests.services.test_graph import DECODED, Stages, Walks, said_of

TILING = Tiling(side=64, overlap=0.25)
DRAWN = Worked(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8), DECODED)


def hires(upscaler: str, **changes: Any) -> Hires:
    return Hires(
        **{"first_width": 64, "first_height": 64, "strength": 0.5, "steps": 4, "upscaler": upscaler, **changes}
    )


@pytest.fixture
def order(live: LiveModel) -> Order:
    made = request(10, side=128, seed=5, n=2, tiling=TILING, hires=hires("latent_nearest"))
    return Order(made, live.pins, Encoding(), contract=live.contracts[Kind.DENOISER])


def with_pixels(order: Order) -> Order:
    return replace(order, request=replace(order.request, hires=hires("nearest")))


def test_the_second_pass_starts_from_the_latents_of_the_first(order: Order) -> None:
    stages = Stages(Walks())

    drawn = stages.draw(order)

    firsts = [walk for walk in stages.walks.orders if walk.latents is None]
    seconds = [walk for walk in stages.walks.orders if walk.latents is not None]
    assert [(walk.request.width, walk.request.strength, walk.request.steps) for walk in firsts] == [(64, 1, 10)] * 2
    assert [(walk.request.width, walk.request.strength, walk.request.steps) for walk in seconds] == [(128, 0.5, 4)] * 2
    # the pictures are drawn side by side, and either may come to its second pass first
    assert [walk.request.seed for walk in firsts] == sorted(walk.request.seed for walk in seconds) == [5, 6]
    assert {walk.request.hires for walk in stages.walks.orders} == {None}
    assert [walk.latents.shape for walk in seconds if walk.latents is not None] == [(1, 4, 16, 16)] * 2
    # it has its place already
    assert [walk.admitted for walk in (*firsts, *seconds)] == [False, False, True, True]
    assert (len(stages.encode.calls), len(stages.vae_encoder.encode.calls), len(stages.decode.calls)) == (1, 0, 2)
    assert said_of(drawn.pictures[0])["hires"]["upscaler"] == "latent_nearest"


def test_what_was_lost_in_the_first_pass_is_encoded_again_once(order: Order) -> None:
    stages = Stages(Walks(3, error=ObjectLostError("0" * 56, None, "")))
    stages.draw(replace(order, request=order.request.picture(0)))
    lost, again, second = (texts for texts, _ in stages.walks.encoded)
    assert lost is not again
    assert second is again
    assert len(stages.encode.calls) == 2


def test_pixels_are_decoded_enlarged_and_encoded_between_the_passes(order: Order) -> None:
    stages = Stages(Walks(), decoded=DRAWN)

    [picture] = stages.draw(with_pixels(replace(order, request=order.request.picture(0)))).pictures

    (between, tiling), (_, last) = [(call[1], call[2]) for call in stages.decode.calls]
    # the first is small enough for the VAE as a whole
    assert (tiling, last, between.shape) == (None, TILING, (1, 4, 8, 8))
    [(pin, pixels, tiled, hidden)] = stages.vae_encoder.encode.calls
    assert (pin, tiled, hidden) == (order.pins[Kind.VAE_ENCODER], TILING, None)
    np.testing.assert_array_equal(pixels, DRAWN.made.repeat(2, 0).repeat(2, 1)[np.newaxis])
    first, second = stages.walks.encoded
    assert first[1] is None
    assert second[1] is not None
    assert second[0] is first[0]
    assert picture.times is not None
    assert picture.times.vae_encoder_s is not None


@pytest.mark.parametrize("pixels", [False, True])
def test_a_second_pass_goes_on_elsewhere_from_the_same_start(order: Order, pixels: bool) -> None:
    stages = Stages(Walks(20, 5, error=ObjectLostError("id", None, "stack")), decoded=DRAWN)
    one = replace(order, request=order.request.picture(0))

    stages.draw(with_pixels(one) if pixels else one)

    _, lost, again = stages.walks.orders
    assert lost.request == again.request
    assert lost.latents is again.latents
    assert again.snapshot.estimates
    # what the machine kept is made anew
    assert len(stages.encode.calls) == 2
    assert len(stages.vae_encoder.encode.calls) == (2 if pixels else 0)


def test_the_steps_of_both_passes_are_told_as_those_of_one_walk(order: Order) -> None:
    stages = Stages(Walks(total=10))

    async def told() -> list[Progress]:
        graph = stages.graph_of(GraphSettings(snapshot_every=4, shadows=1, max_held=16))
        one = replace(order, request=order.request.picture(0))
        return [news async for news in graph.watch(one) if isinstance(news, Progress)]

    progress = asyncio.run(told())
    # these walks have ten steps each, whatever is asked for
    assert [one.step for one in progress] == list(range(1, 21))
    assert {one.steps for one in progress[:10]} == {10 + 2}
    assert order.request.walked == 10 + 2
