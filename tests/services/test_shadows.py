"""Shadow decodes: what is compared, what is told, what is dropped, and that nobody waits for them."""

import asyncio
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from components.messages import Pixels
from components.reference import ComponentRef
from services.decoding import Made, PictureDecoder
from services.errors import ServingError, StartError
from services.messages import ShadowResult, Worked
from services.shadows import Shadows, Shown
from services.timelines.spans import Span
from tests.services.responses import Response
from tests.services.test_decoding import LATENTS, PIN, decoder_ref, no_picture
from tests.services.test_denoiser import Tally

CANDIDATE = decoder_ref(2)
LIVE = Made(np.zeros((8, 8, 3), np.uint8), PIN, 0.5, ())


class Handles:
    """The decoder's and the rollout's handle; the candidate's answer waits until `free` is set."""

    def __init__(self, answer: Pixels | Exception) -> None:
        self._answer = answer
        self.free = asyncio.Event()
        self.free.set()
        self.begun = 0
        self.results: list[ShadowResult] = []
        self.told: Exception | None = None
        self.decode = self
        self.shadowed = Told(self)

    def remote(self, _pin: ComponentRef, _latents: object, _tiling: object) -> Response:
        self.begun += 1
        return Response(self._decoded)

    async def _decoded(self) -> Worked[Pixels]:
        await self.free.wait()
        if isinstance(self._answer, Exception):
            raise self._answer
        return Worked(self._answer, Span("decode", 0.0, 0.25))


class Told:
    def __init__(self, handles: Handles) -> None:
        self._handles = handles

    async def remote(self, result: ShadowResult) -> None:
        if self._handles.told is not None:
            raise self._handles.told
        self._handles.results.append(result)


def shadows(handles: Any, most: int = 1) -> tuple[Shadows, Mapping[str, list[Any]]]:
    tally: Any = Tally()
    return Shadows(PictureDecoder(handles, tally), handles, tally, most), tally.told


async def settled(made: Shadows) -> None:
    while made.under_way:
        await asyncio.sleep(0.01)


async def results_of(answer: Pixels | Exception) -> tuple[ShadowResult, Mapping[str, list[Any]]]:
    handles = Handles(answer)
    made, told = shadows(handles)
    made.start(CANDIDATE, [Shown(LATENTS, None, LIVE)])
    await settled(made)
    [result] = handles.results
    return result, told


def test_the_two_pictures_are_compared() -> None:
    result, told = asyncio.run(results_of(np.full((8, 8, 3), 2, np.uint8)))
    expected = 10 * math.log10(255**2 / 4)
    assert result.psnr_db == pytest.approx(expected)
    assert (result.pin, result.live, result.seconds, result.live_seconds) == (CANDIDATE, PIN, 0.25, 0.5)
    assert (result.finite, result.failed) == (True, None)
    assert told["shadowed"] == [(CANDIDATE, "compared")]
    assert asyncio.run(results_of(LIVE.pixels.copy()))[0].psnr_db == math.inf


@pytest.mark.parametrize(
    ("answer", "finite", "failed", "outcome"),
    [
        (no_picture(CANDIDATE), False, "toy.vae_decoder/2 gave pixels that are not finite", "no_picture"),
        (StartError("toy.vae_decoder/2: not there"), True, "toy.vae_decoder/2: not there", "failed"),
        (ServingError("vae_decoder: something"), True, "vae_decoder: something", "failed"),
        (KeyError("a secret"), True, "KeyError", "failed"),
        (np.zeros((16, 16, 3), np.uint8), True, "pictures of 8x8 and 16x16 cannot be compared", "failed"),
    ],
)
def test_a_candidate_that_gives_nothing_to_compare(
    answer: Pixels | Exception, finite: bool, failed: str, outcome: str
) -> None:
    result, told = asyncio.run(results_of(answer))
    assert (result.psnr_db, result.seconds, result.finite, result.failed) == (None, None, finite, failed)
    assert told["shadowed"] == [(CANDIDATE, outcome)]


def test_too_many_are_dropped_and_counted() -> None:
    async def scenario() -> None:
        handles = Handles(LIVE.pixels)
        handles.free.clear()
        made, told = shadows(handles, most=2)
        for _ in range(5):
            made.start(CANDIDATE, [Shown(LATENTS, None, LIVE)] * 3)
        assert made.under_way == 2
        assert told["shadowed"] == [(CANDIDATE, "dropped", 3)] * 3
        handles.free.set()
        await settled(made)
        assert len(handles.results) == handles.begun == 6

    asyncio.run(scenario())


def test_it_begins_after_the_answer_and_ends_with_the_replica() -> None:
    async def scenario() -> None:
        handles = Handles(LIVE.pixels)
        handles.free.clear()
        made, _ = shadows(handles)
        made.start(CANDIDATE, [Shown(LATENTS, None, LIVE)])
        for _ in range(10):
            await asyncio.sleep(0)
        assert handles.begun == 0
        while not handles.begun:
            await asyncio.sleep(0.01)
        made.close()
        await settled(made)
        assert handles.results == []
        made.close()

    asyncio.run(scenario())


def test_the_version_that_made_the_picture_is_not_asked_again() -> None:
    async def scenario() -> None:
        handles = Handles(LIVE.pixels)
        made, told = shadows(handles)
        made.start(PIN, [Shown(LATENTS, None, LIVE)])
        assert (made.under_way, told) == (0, {})

    asyncio.run(scenario())


def test_a_rollout_that_is_away_takes_nothing_with_it(serve_log: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        handles = Handles(LIVE.pixels)
        handles.told = RuntimeError("a secret")
        made, told = shadows(handles)
        made.start(CANDIDATE, [Shown(LATENTS, None, LIVE)] * 2)
        await settled(made)
        assert told["shadowed"] == [(CANDIDATE, "compared")] * 2

    asyncio.run(scenario())
    assert serve_log.messages == ["toy.vae_decoder/2: what a shadow showed was lost: RuntimeError"] * 2
