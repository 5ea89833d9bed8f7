"""The text encoder's deployment: what is kept of texts, and what is counted of that."""

import asyncio
from typing import Any

from components.contract import Kind
from pipeline.prompts.cache import CacheFigures
from services.messages import LiveModel
from services.metrics.text_encoder import CacheMetrics
from services.stage_args import TextEncoderArgs
from services.stage_host import StageSettings
from services.text_encoder import TextEncoderDeployment, TextEncoderSettings
from tests.services.conftest import TOKENS, WIDTH, FakeRollout

TEXT_BYTES = TOKENS * WIDTH * 4


class Figure:
    """In place of a counter or a gauge: what it stands at, by its labels."""

    def __init__(self) -> None:
        self.values: dict[tuple[str, ...], float] = {}

    def inc(self, value: float, tags: dict[str, str]) -> None:
        labels = tuple(tags.values())
        self.values[labels] = self.values.get(labels, 0) + value

    def set(self, value: float) -> None:
        self.values[()] = value


def figures_of(metrics: Any) -> tuple[Figure, Figure]:
    metrics._lookups, metrics._bytes = figures = Figure(), Figure()
    return figures


async def deployed(published: tuple[LiveModel, StageSettings], cache_bytes: int) -> Any:
    live, settings = published
    deployment: Any = TextEncoderDeployment.__new__(TextEncoderDeployment)
    rollout: Any = FakeRollout(live)
    await TextEncoderDeployment.__init__(
        deployment,
        rollout,
        TextEncoderSettings(registry=settings.registry, args=TextEncoderArgs(threads=1, cache_bytes=cache_bytes)),
    )
    return deployment


def test_texts_that_come_again_are_hits(published: tuple[LiveModel, StageSettings]) -> None:
    pin = published[0].pins[Kind.TEXT_ENCODER]

    async def run() -> None:
        deployment = await deployed(published, 2 * TEXT_BYTES)
        lookups, size = figures_of(deployment._caches)
        asked = ("a red apple", "boat")
        first, again = [await deployment.encode(pin, asked, 1, "none", 1, ()) for _ in range(2)]
        assert lookups.values == {(str(pin), "hit"): 2, (str(pin), "miss"): 2}
        assert size.values == {(): 2 * TEXT_BYTES}
        assert [one.span.facts for one in (first, again)] == [{"texts": 2, "cached": 0}, {"texts": 2, "cached": 2}]
        assert (first.span.stage, first.span.component) == (Kind.TEXT_ENCODER, pin)
        first, again = first.made, again.made
        assert first.arrays["hidden_states"].tobytes() == again.arrays["hidden_states"].tobytes()
        skipped = (await deployment.encode(pin, asked, 1, "none", 2, ())).made
        assert skipped.arrays["hidden_states"].tobytes() != first.arrays["hidden_states"].tobytes()
        assert lookups.values == {(str(pin), "hit"): 2, (str(pin), "miss"): 4}
        assert size.values == {(): 2 * TEXT_BYTES}, "there is room for two"

    asyncio.run(run())


def test_a_cache_of_no_bytes_keeps_nothing(published: tuple[LiveModel, StageSettings]) -> None:
    pin = published[0].pins[Kind.TEXT_ENCODER]

    async def run() -> None:
        deployment = await deployed(published, 0)
        lookups, size = figures_of(deployment._caches)
        for _ in range(3):
            await deployment.encode(pin, ("boat",), 1, "none", 1, ())
        assert lookups.values == {(str(pin), "miss"): 3}
        assert size.values == {(): 0}

    asyncio.run(run())


def test_figures_that_come_late_count_nothing_twice() -> None:
    metrics = CacheMetrics()
    lookups, _ = figures_of(metrics)
    stage, other = Figure(), Figure()
    for owner, hits, misses in ((stage, 3, 1), (stage, 2, 1), (other, 1, 0), (stage, 4, 2)):
        metrics.used(owner, "v", CacheFigures(hits, misses, 0, 0))
    assert lookups.values == {("v", "hit"): 5, ("v", "miss"): 2}


def test_a_version_that_was_closed_keeps_no_bytes() -> None:
    metrics = CacheMetrics()
    _, size = figures_of(metrics)
    stage, other = Figure(), Figure()
    for owner in (stage, other):
        metrics.used(owner, "v", CacheFigures(0, 1, 1, 100))
    assert size.values == {(): 200}
    del owner, other
    metrics.used(stage, "v", CacheFigures(1, 1, 1, 100))
    assert size.values == {(): 100}
