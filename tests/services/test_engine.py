"""The denoising engine on a real local cluster: determinism, replicas that die, clients that leave, overload."""

import asyncio
import http.client
import io
import json
import os
import random
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from ray.serve.handle import DeploymentHandle

import ray_app
from components.messages import ImageRequest
from pipeline.denoiser import Denoiser
from pipeline.track import Track
from runtime.interrupt import Interrupt
from services.denoiser import DenoiserDeployment, DenoiserSettings
from services.errors import GivenUpError
from services.messages import Drawn, Progress, Queued, Terms
from tests.services.cluster import Application, Cluster, comes_true

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

# the steps of a request, and after how many of them it ends its process
POISON = (77, 6)
EMOJI = Path(__file__).parents[2] / "models" / "emoji"
GENERATIONS = "/v1/images/generations"


class PoisonedDenoiser(DenoiserDeployment):
    """A denoiser whose process ends at one step of one request, as a fault in a library ends it."""

    async def __init__(self, rollout: DeploymentHandle, settings: DenoiserSettings) -> None:  # type: ignore[misc]
        await super().__init__(rollout, settings)
        advance = Denoiser.advance

        def poisoned(stage: Denoiser, tracks: Sequence[Track], interrupt: Interrupt | None = None) -> None:
            if any((track.steps, track.evaluation) == POISON for track in tracks):
                os._exit(1)
            advance(stage, tracks, interrupt)

        Denoiser.advance = poisoned  # type: ignore[method-assign, assignment]


@pytest.fixture(scope="module")
def one(cluster: Cluster) -> Iterator[Application]:
    with cluster.deployed("engine-one", "emoji", EMOJI, denoiser={"queued_pictures": 60}) as application:
        yield application


@pytest.fixture(scope="module")
def two(cluster: Cluster) -> Iterator[Application]:
    with cluster.deployed("engine-two", "emoji", EMOJI, denoiser={"replicas": 2}) as application:
        yield application


def requests(application: Application) -> list[ImageRequest]:
    """Thirty that differ in all that may differ within a run, and some in size, which makes runs of their own."""
    walks: list[dict[str, Any]] = [
        {"sampler": "ddim", "steps": 6},
        {"sampler": "dpmpp_2m", "schedule": "karras", "steps": 5},
        {"sampler": "euler_ancestral", "steps": 7, "guidance_end": 0.6},
        {"sampler": "heun", "steps": 4, "guidance_rescale": 0.5},
        {"sampler": "unipc", "steps": 4, "guidance": 1.0},
        {"sampler": "lcm", "steps": 3, "rng": "philox"},
    ]
    prompts = ("a red apple, 3d style", "bullet train", "globe", "a yellow padlock", "tennis")
    sizes: tuple[dict[str, int], ...] = ({}, {}, {}, {"width": 64, "height": 96}, {})
    return [
        application.request(prompt=prompt, seed=seed, **walk, **size)
        for seed, (prompt, size) in enumerate(zip(prompts, sizes, strict=True))
        for walk in walks
    ]


async def in_random_mixes(application: Application, asked: Sequence[ImageRequest], seed: int) -> tuple[Any, Any]:
    """Pictures and latents of the requests, which come at random moments, beside others that nobody looks at."""
    chance = random.Random(seed)

    async def late(what: Any) -> Any:
        await asyncio.sleep(chance.random() * 3)
        return await what

    others = [
        asyncio.create_task(late(application.picture(application.request(seed=900 + k, steps=chance.randint(1, 12)))))
        for k in range(12)
    ]
    pictures = [late(application.picture(request)) for request in asked]
    latents = [late(application.latents(request, f"{seed}-{k}")) for k, request in enumerate(asked)]
    chance.shuffle(others)
    made = await asyncio.gather(*pictures, *latents)
    await asyncio.gather(*others)
    return made[: len(asked)], [each.tobytes() for each in made[len(asked) :]]


def test_a_request_gives_the_same_bytes_in_any_company_on_any_replica(one: Application, two: Application) -> None:
    before = one.by_process("latentworks_denoiser_runs_total")

    async def alone() -> tuple[list[bytes], list[bytes]]:
        asked = requests(one)
        pictures = [await one.picture(request) for request in asked]
        latents = [await one.latents(request, f"alone-{k}") for k, request in enumerate(asked)]
        return pictures, [each.tobytes() for each in latents]

    pictures, latents = asyncio.run(alone())
    assert len(set(latents)) == len(set(pictures)) == 30
    for application in (one, two):
        for seed in (1, 2):
            together = asyncio.run(in_random_mixes(application, requests(application), seed))
            assert together == (pictures, latents)
    # the promise is of runs that were shared, on every replica
    shared = [one.metric("latentworks_denoiser_rows_bucket", f'le="{most}.0"') for most in (2, 8)]
    assert shared[1] > shared[0]
    after = one.by_process("latentworks_denoiser_runs_total")
    assert sum(count > before[process] for process, count in after.items()) == 3


def test_forty_requests_wait_in_one_policy(one: Application) -> None:
    async def work() -> None:
        begun, ended = asyncio.Event(), 0
        seen: set[int] = set()

        async def watch(seed: int) -> None:
            nonlocal ended
            async for news in one.watch(one.request(seed=seed, steps=30)):
                if isinstance(news, Progress):
                    seen.add(seed)
                    if len(seen) == 40:
                        begun.set()
                elif isinstance(news, Drawn):
                    ended += 1
                    assert begun.is_set(), "one had ended before all had begun: the others waited elsewhere"

        await asyncio.gather(*map(watch, range(40)))
        assert ended == 40

    asyncio.run(work())


def test_progress_comes_step_by_step_with_previews(one: Application) -> None:
    async def work() -> list[Progress | Queued | Drawn]:
        request = one.request(seed=1, steps=10, n=2)
        return [news async for news in one.watch(request, preview_every=3)]

    *steps, drawn = asyncio.run(work())
    assert isinstance(drawn, Drawn)
    for image in range(2):
        own = [news for news in steps if isinstance(news, Progress) and news.image == image]
        assert [news.step for news in own] == list(range(1, 11))
        assert {news.steps for news in own} == {10}
        previews = {news.step: news.preview for news in own if news.preview is not None}
        assert list(previews) == [3, 6, 9]
        assert previews[9].shape == (16, 16, 3)
        # the last preview looks like the picture
        picture = Image.open(io.BytesIO(drawn.pictures[image].data)).resize((16, 16), Image.Resampling.BOX)
        correlation = np.corrcoef(np.asarray(picture).ravel(), previews[9].ravel())[0, 1]
        assert correlation > 0.8


@pytest.mark.parametrize("deployment", ["text_encoder", "denoiser", "vae_decoder"])
def test_a_replica_that_is_killed_loses_no_request(two: Application, deployment: str) -> None:
    asked = [two.request(seed=seed, steps=40 + seed) for seed in range(12)]
    lost, stage = "latentworks_replicas_lost_total", f'stage="{deployment}"'
    before = two.metric(lost, stage)

    async def killing() -> tuple[list[bytes], int]:
        # one after another, so that some are in every stage at the moment of the kill
        async def late(k: int) -> bytes:
            await asyncio.sleep(k * 0.1)
            return await two.picture(asked[k])

        pictures = [asyncio.create_task(late(k)) for k in range(12)]
        await asyncio.sleep(0.8)
        killed = two.kill(deployment)
        return await asyncio.gather(*pictures), killed

    async def undisturbed() -> list[bytes]:
        return await asyncio.gather(*map(two.picture, asked))

    pictures, killed = asyncio.run(killing())
    replicas = 2 if deployment == "denoiser" else 1
    if deployment == "denoiser":
        assert two.metric_reaches(before + 1, lost, stage), "the replica had nothing to do"
    assert two.heals(deployment, replicas, without=killed)
    assert pictures == asyncio.run(undisturbed())


def test_the_only_replica_that_is_killed_loses_no_request_and_little_work(one: Application) -> None:
    steps = 60

    async def watch(seed: int, seen: list[int]) -> bytes:
        async for news in one.watch(one.request(seed=seed, steps=steps)):
            if isinstance(news, Progress):
                seen.append(news.step)
            elif isinstance(news, Drawn):
                return news.pictures[0].data
        raise AssertionError

    async def killing(seen: dict[int, list[int]]) -> tuple[list[bytes], int]:
        pictures = [asyncio.create_task(watch(seed, seen[seed])) for seed in range(4)]
        while min(map(len, seen.values())) < 15:
            await asyncio.sleep(0.01)
        killed = one.kill("denoiser")
        return await asyncio.gather(*pictures), killed

    seen: dict[int, list[int]] = {seed: [] for seed in range(4)}
    pictures, killed = asyncio.run(killing(seen))
    assert one.heals("denoiser", 1, without=killed)
    for told in seen.values():
        # nothing is told twice: what had been told was not computed again
        assert told == sorted(set(told))
        assert told[-1] == steps

    async def undisturbed() -> list[bytes]:
        return await asyncio.gather(*(one.picture(one.request(seed=seed, steps=steps)) for seed in range(4)))

    assert pictures == asyncio.run(undisturbed())


def test_clients_that_go_away_stop_their_walks(one: Application) -> None:
    cancelled = "latentworks_denoiser_cancelled_total"
    before = one.metric(cancelled)
    host, path = one.url.removeprefix("http://").split("/")
    connections = []
    for seed in range(30):
        connection = http.client.HTTPConnection(host)
        body = {"prompt": "globe", "seed": seed, "steps": 48}
        connection.request("POST", f"/{path}{GENERATIONS}", json.dumps(body), {"content-type": "application/json"})
        connections.append(connection)
    all_came = one.metric_reaches(20, "latentworks_denoiser_waiting")
    for connection in connections:
        connection.close()
    assert all_came
    assert one.metric_reaches(before + 30, cancelled, 'reason="caller_left"')
    assert one.metric_reaches(1, "latentworks_denoiser_evaluations_wasted_total")
    # the queue is empty: what comes now is drawn at once
    assert one.generate(prompt="globe", steps=2).status_code == 200
    assert comes_true(lambda: one.metric("latentworks_denoiser_waiting") == 0)


def test_too_much_is_refused_with_the_time_to_wait_and_the_rest_is_drawn(one: Application) -> None:
    with ThreadPoolExecutor(40) as clients:
        answers = list(clients.map(lambda seed: one.generate(prompt="globe", seed=seed, steps=100), range(40)))
    statuses = [answer.status_code for answer in answers]
    # 60 pictures of 25 steps are 15 of 100, and some are drawn while others still come
    assert set(statuses) == {200, 429}
    assert 15 <= statuses.count(200) <= 30
    refused = [answer for answer in answers if answer.status_code == 429]
    assert {answer.json()["error"]["code"] for answer in refused} == {"overloaded"}
    waits = [int(answer.headers["retry-after"]) for answer in refused]
    assert all(1 <= wait <= 60 for wait in waits)
    assert one.metric_reaches(len(refused), "latentworks_denoiser_refused_total", 'reason="overloaded"')


def test_a_deadline_and_a_priority_are_kept(one: Application) -> None:
    late = one.generate(prompt="globe", steps=150, deadline_s=0.2)
    assert (late.status_code, late.json()["error"]["code"]) == (504, "deadline_exceeded")
    assert late.json()["error"]["param"] == "deadline_s"

    async def work() -> list[str]:
        ended: list[str] = []

        async def draw(priority: Any, seed: int) -> None:
            await one.picture(one.request(seed=seed, steps=25), Terms(priority=priority))
            ended.append(priority)

        await asyncio.gather(*(draw(priority, seed) for seed in range(12) for priority in ("low", "high")))
        return ended

    ended = asyncio.run(work())
    assert ended[:6] == ["high"] * 6
    assert ended[-6:] == ["low"] * 6


def test_a_request_that_kills_replicas_is_given_up_after_two_and_its_mates_are_drawn(
    cluster: Cluster, toy_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_app, "DenoiserDeployment", PoisonedDenoiser)
    application = cluster.deploy("poisoned", "toy", toy_bundle, denoiser={"replicas": 2, "queued_pictures": 10_000})
    long = application.request(seed=1, steps=150, width=512, height=512)
    mates = [application.request(seed=seed, steps=60 + seed) for seed in range(2, 10)]
    steps, _ = POISON
    poison = application.request(seed=2, steps=steps)

    async def together() -> list[Any]:
        under_way = asyncio.create_task(application.picture(long))
        await asyncio.sleep(0.5)
        beside = [asyncio.create_task(application.picture(request)) for request in (*mates, poison)]
        return await asyncio.gather(under_way, *beside, return_exceptions=True)

    async def without() -> list[bytes]:
        return await asyncio.gather(*map(application.picture, (long, *mates)))

    try:
        *pictures, error = asyncio.run(together())
        assert isinstance(error, GivenUpError)
        assert "2 replicas of the denoiser stopped" in str(error)
        assert pictures == asyncio.run(without())
        answer = application.generate(prompt="a", steps=steps)
        assert (answer.status_code, answer.json()["error"]["code"]) == (500, "given_up")
    finally:
        cluster.remove(application)
