"""The denoiser's deployment without Ray: pins, cancellation."""

import asyncio
from pathlib import Path

import numpy as np
import pytest

from components.contract import Kind
from components.folder import ComponentFolder
from components.messages import EncodedText, ImageRequest
from components.reference import ComponentRef
from pipeline.denoiser import Denoiser
from pipeline.jobs import denoise_jobs
from runtime.settings import SessionSettings
from services.denoiser import DenoiserDeployment
from services.errors import StartError
from services.messages import LiveModel
from services.stage_host import StageSettings
from tests.services.conftest import FakeCatalog

ENCODED = EncodedText({"hidden_states": np.ones((2, 8, 6), np.float32)}, (False, False))


def request(steps: int, side: int) -> ImageRequest:
    return ImageRequest(
        prompt="a",
        negative_prompt="",
        steps=steps,
        guidance=2.0,
        sampler="ddim",
        schedule="default",
        rng="torch",
        seed=5,
        subseed=None,
        subseed_strength=0.0,
        n=1,
        width=side,
        height=side,
    )


async def started(published: tuple[LiveModel, StageSettings]) -> DenoiserDeployment:
    live, settings = published
    deployment = DenoiserDeployment.__new__(DenoiserDeployment)
    await deployment.__init__(FakeCatalog(live), settings)  # type: ignore[misc]  # as Serve does
    return deployment


def test_latents_are_those_of_the_pipeline(published: tuple[LiveModel, StageSettings], toy_bundle: Path) -> None:
    async def denoise() -> object:
        deployment = await started(published)
        pin = published[0].pins[Kind.DENOISER]
        return await asyncio.gather(*(deployment.denoise(pin, request(3, 64), ENCODED) for _ in range(5)))

    alone = Denoiser(ComponentFolder.open(toy_bundle / Kind.DENOISER), SessionSettings(threads=1))
    expected = alone.denoise(denoise_jobs(request(3, 64), ENCODED, alone.space)[0])
    for latents in asyncio.run(denoise()):  # type: ignore[attr-defined]
        np.testing.assert_array_equal(latents, expected)


def test_cancelled_walk_ends_at_its_next_step(
    published: tuple[LiveModel, StageSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = 0
    advance = Denoiser.advance

    def counted(stage: Denoiser, tracks: object) -> None:
        nonlocal steps
        advance(stage, tracks)  # type: ignore[arg-type]
        steps += 1

    monkeypatch.setattr(Denoiser, "advance", counted)

    async def leave() -> tuple[int, int]:
        deployment = await started(published)
        pin = published[0].pins[Kind.DENOISER]
        task = asyncio.create_task(deployment.denoise(pin, request(150, 512), ENCODED))
        while steps < 3:
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        at_cancel = steps
        await asyncio.sleep(0.3)
        return at_cancel, steps

    at_cancel, at_end = asyncio.run(leave())
    assert at_end <= at_cancel + 1


def test_an_unknown_pin_is_refused_and_the_next_call_works(published: tuple[LiveModel, StageSettings]) -> None:
    async def denoise() -> object:
        deployment = await started(published)
        pin = published[0].pins[Kind.DENOISER]
        wrong = ComponentRef(name="toy.denoiser", version=9, sha256="0" * 64)
        with pytest.raises(StartError, match="toy.denoiser/9"):
            await deployment.denoise(wrong, request(1, 64), ENCODED)
        return await deployment.denoise(pin, request(1, 64), ENCODED)

    assert asyncio.run(denoise()) is not None
