"""The latents' deployment without Ray, and what asks it."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.contract import Kind
from services.errors import LatentsNotFoundError, LinkExpiredError, LinkSignatureError
from services.files.store import StoreSettings
from services.latents import deployment as module
from services.latents import keeper
from services.latents.deployment import LatentsDeployment
from services.latents.records import KeptLatents
from services.messages import LiveModel
from tests.requests import image_request
from tests.services.test_denoiser import Tally


@pytest.fixture
def kept(live: LiveModel) -> KeptLatents:
    return KeptLatents(
        latents=np.ones((1, 4, 8, 8), np.float32),
        request=image_request(width=64, height=64, n=1),
        pins=live.pins,
        contract=live.contracts[Kind.DENOISER],
    )


async def started(folder: Path, keep_s: float = 3600) -> LatentsDeployment:
    made = LatentsDeployment.__new__(LatentsDeployment)
    latents, pictures = (
        StoreSettings(store=str(folder / name), most_bytes=2**20, keep_s=keep_s) for name in ("latents", "pictures")
    )
    await made.__init__(latents, pictures)  # type: ignore[misc]
    return made


def test_another_replica_in_its_place_has_them_too(tmp_path: Path, kept: KeptLatents) -> None:
    async def scenario() -> None:
        first = await started(tmp_path)
        id_ = await first.keep(kept, "me")
        first.__del__()
        second = await started(tmp_path)
        found = await second.read(id_, "me")
        np.testing.assert_array_equal(found.latents, kept.latents)
        with pytest.raises(LatentsNotFoundError):
            await second.read(id_, "you")

    asyncio.run(scenario())


def test_links_work_in_another_replica_too(tmp_path: Path) -> None:
    async def scenario() -> None:
        first = await started(tmp_path)
        link = await first.keep_picture(b"a picture", "webp")
        first.__del__()
        second = await started(tmp_path)
        assert await second.read_picture(link) == b"a picture"
        with pytest.raises(LinkSignatureError):
            await second.read_picture(replace(link, signature="x"))
        next((tmp_path / "pictures").glob("*.picture")).unlink()
        with pytest.raises(LinkExpiredError):
            await second.read_picture(link)

    asyncio.run(scenario())


def test_what_has_ended_goes_though_nobody_asks(
    tmp_path: Path, kept: KeptLatents, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SWEEP_S", 0.05)

    async def scenario() -> None:
        store = await started(tmp_path, keep_s=0.01)
        await store.keep(kept, "")
        await store.keep_picture(b"a picture", "png")
        assert len(list(tmp_path.rglob("*.npz"))) == len(list(tmp_path.rglob("*.picture"))) == 1
        while [*tmp_path.rglob("*.npz"), *tmp_path.rglob("*.picture")]:
            await asyncio.sleep(0.05)

    asyncio.run(scenario())


class Slow:
    """The deployment's handle while no replica is there."""

    def __init__(self) -> None:
        self.keep = self

    async def remote(self, *_arguments: Any) -> str:
        await asyncio.Event().wait()
        return ""


def test_a_picture_does_not_wait_for_a_store_that_is_away(
    kept: KeptLatents, monkeypatch: pytest.MonkeyPatch, serve_log: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(keeper, "MOST_S", 0.01)
    handle: Any = Slow()
    tally: Any = Tally()
    assert asyncio.run(keeper.Keeper(handle, tally).keep(replace(kept), "me")) is None
    assert tally.told == {"not_kept": [()]}
    assert serve_log.messages == ["latents are not kept: TimeoutError"]
