"""Walks that control pictures hold, in the denoiser's deployment without Ray: bytes, shared runs, faults, cost."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pytest

from components.contract import Kind
from components.folder import ComponentFolder
from components.messages import Arrays, Control, ControlFeatures, FloatArray, ImageRequest, LoraChoice
from components.reference import ComponentRef, Selector
from diffusion.guidance import Row
from pipeline.adapter import Adapter
from pipeline.controlnet import ControlNet
from pipeline.denoiser import Denoiser
from pipeline.image_encoder import ImageEncoder, image_prompt_rows
from pipeline.jobs import denoise_jobs
from pipeline.loras import Lora, LoraShelf, lora_arrays
from pipeline.request import RequestRules
from pipeline.track import Track
from registry.registry import Registry
from registry.settings import RegistrySettings
from runtime.errors import RuntimeFault
from runtime.interrupt import Interrupt
from runtime.settings import SessionSettings
from services.denoiser import DenoiserDeployment, DenoiserSettings
from services.errors import BesideError, UnavailableError
from services.messages import ControlOrder, LiveModel, Terms, WalkOrder, WalkReport, Worked
from services.rollout.last_good import live_model
from services.rollout.settings import RolloutSettings
from services.rollout.start import begin
from services.stage_args import DenoiserArgs
from tests.services.conftest import FakeRollout
from tests.services.controlled import write_controlled
from tests.services.test_denoiser import ENCODED, ENCODING, PLAIN, request

Result = TypeVar("Result")
ONE_THREAD = SessionSettings(threads=1)


@dataclass(frozen=True)
class Held:
    """A bundle whose denoiser is held, published, and the same in one process."""

    folder: Path
    registry: RegistrySettings
    live: LiveModel
    edges: ComponentRef
    depth: ComponentRef
    lines: ComponentRef
    style: ComponentRef
    ink: ComponentRef

    def net(self, name: str) -> ControlNet:
        return ControlNet(ComponentFolder.open(self.folder / f"controlnet-{name}"), ONE_THREAD)

    def features(self, pixels: npt.NDArray[np.uint8]) -> Arrays:
        return Adapter(ComponentFolder.open(self.folder / "adapter-lines"), ONE_THREAD).features(pixels)


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Held:
    folder = write_controlled(tmp_path_factory.mktemp("models") / "toy")
    settings = RegistrySettings(home=tmp_path_factory.mktemp("home"))
    start, _away = begin(RolloutSettings(bundle="toy", folder=folder, registry=settings))
    live = live_model("toy", start.rollout, start.contracts)
    registry = Registry.connect(settings)
    names = ("controlnet.edges", "controlnet.depth", "adapter.lines", "lora.style", "lora.ink")
    pins = [registry.resolve(Selector(name=f"toy.{name}", alias="production")) for name in names]
    return Held(folder, settings, live, *pins)


@dataclass
class House:
    """A replica without Ray."""

    deployment: DenoiserDeployment
    pin: ComponentRef

    def reports(
        self, what: ImageRequest, *features: Arrays, like: Arrays | None = None, **order: Any
    ) -> AsyncIterator[WalkReport]:
        base = WalkOrder(order=uuid.uuid4().hex, pin=self.pin, request=what, terms=Terms(), report_every=4)
        encoded = Worked(PLAIN if what.guidance == 1 else ENCODED, ENCODING)
        made = [Worked(arrays, ENCODING) for arrays in features]
        alike = None if like is None else Worked(like, ENCODING)
        return self.deployment.walk(replace(base, **order), encoded, None, alike, *made)

    async def latents(
        self, what: ImageRequest, *features: Arrays, like: Arrays | None = None, **order: Any
    ) -> FloatArray:
        *_, last = [report async for report in self.reports(what, *features, like=like, **order)]
        assert last.latents is not None
        return last.latents


def in_house(held: Held, work: Callable[[House], Coroutine[Any, Any, Result]], **changes: Any) -> Result:
    async def run() -> Result:
        deployment = DenoiserDeployment.__new__(DenoiserDeployment)
        args = DenoiserArgs(threads=1, **changes)
        chosen = DenoiserSettings(registry=held.registry, args=args, rules=RequestRules())
        await deployment.__init__(FakeRollout(held.live), chosen)  # type: ignore[misc]  # as Serve does
        return await work(House(deployment, held.live.pins[Kind.DENOISER]))

    return asyncio.run(run())


def pixels(seed: int, side: int = 64) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (1, side, side, 3), np.uint8)


def by(pin: ComponentRef, seed: int, **how: Any) -> ControlOrder:
    return ControlOrder(pin, Control(**how), pixels(seed))


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many pictures shared each run of the U-Net."""
    made: list[int] = []
    advance = Denoiser.advance

    def recorded(stage: Denoiser, tracks: Sequence[Track], interrupt: Interrupt | None = None) -> None:
        advance(stage, tracks, interrupt)
        made.append(len(tracks))

    monkeypatch.setattr(Denoiser, "advance", recorded)
    return made


def test_walks_that_are_held_share_runs_with_others_and_have_the_bytes_of_one_process(
    held: Held, runs: list[int]
) -> None:
    orders: list[tuple[ImageRequest, tuple[ControlOrder, ...], tuple[Control, ...]]] = [
        (request(40), (), ()),
        (request(40, seed=6), (by(held.edges, 1, scale=0.7, end=0.6),), ()),
        (request(40, seed=7), (by(held.edges, 2), by(held.depth, 3, start=0.25)), ()),
        (request(40, seed=8, guidance=1.0), (by(held.depth, 4),), (Control(scale=0.5, start=0.5),)),
    ]
    features = held.features(pixels(9))

    async def work(house: House) -> list[FloatArray]:
        # none is to wait until another's ControlNet is open
        await house.latents(request(1), controls=(by(held.edges, 1), by(held.depth, 1)))
        return await asyncio.gather(
            *(
                house.latents(what, *[features] * len(hows), controls=controls, features=hows)
                for what, controls, hows in orders
            )
        )

    made = in_house(held, work)
    assert max(runs) == 4
    runs.clear()
    denoiser = Denoiser(ComponentFolder.open(held.folder / Kind.DENOISER), ONE_THREAD)
    nets = {held.edges: held.net("edges"), held.depth: held.net("depth")}
    for latents, (what, controls, hows) in zip(made, orders, strict=True):
        [job] = denoise_jobs(
            what,
            PLAIN if what.guidance == 1 else ENCODED,
            denoiser.contract,
            controls=[one.picture for one in controls],
            features=[ControlFeatures(scale=how.scale, start=how.start, arrays=features) for how in hows],
        )
        np.testing.assert_array_equal(latents, denoiser.denoise(job, [nets[one.pin] for one in controls]))
    assert len({latents.tobytes() for latents in made}) == 4


def test_rows_with_other_loras_share_runs_and_have_the_bytes_of_one_process(held: Held, runs: list[int]) -> None:
    both = (LoraChoice(str(held.style), 0.8), LoraChoice(str(held.ink), -0.5))
    orders = [request(40), request(40, seed=6, loras=both[:1]), request(40, seed=7, loras=both, guidance=1.0)]
    pins = [(), (held.style,), (held.style, held.ink)]

    async def work(house: House) -> list[FloatArray]:
        await house.latents(request(1, loras=both), loras=(held.style, held.ink))
        walks = [house.latents(what, loras=chosen) for what, chosen in zip(orders, pins, strict=True)]
        return await asyncio.gather(*walks)

    made = in_house(held, work)
    assert max(runs) == 3
    denoiser = Denoiser(ComponentFolder.open(held.folder / Kind.DENOISER), ONE_THREAD)
    folders = {str(held.style): held.folder / "lora-style", str(held.ink): held.folder / "lora-ink"}
    shelf = LoraShelf(
        {name: ComponentFolder.open(path) for name, path in folders.items()}, denoiser.contract, ONE_THREAD
    )
    for latents, what in zip(made, orders, strict=True):
        encoded = PLAIN if what.guidance == 1 else ENCODED
        [job] = denoise_jobs(what, encoded, denoiser.contract, adapted=dict.fromkeys(Row, shelf.arrays(what.loras)))
        np.testing.assert_array_equal(latents, denoiser.denoise(job))
    assert len({latents.tobytes() for latents in made}) == 3


def test_rows_with_pictures_to_be_like_have_the_bytes_of_one_process(held: Held, runs: list[int]) -> None:
    encoder = ImageEncoder(ComponentFolder.open(held.folder / Kind.IMAGE_ENCODER), ONE_THREAD)
    tokens = [encoder.tokens([pixels(seed, encoder.side) for seed in range(count)]) for count in (1, 3)]
    style = (LoraChoice(str(held.style), 0.8),)
    orders: list[tuple[ImageRequest, Arrays | None, tuple[ComponentRef, ...]]] = [
        (request(40), None, ()),
        (request(40, seed=6, image_prompt_scale=0.6), tokens[0], ()),
        (request(40, seed=7, image_prompt_scale=1.0, loras=style), tokens[1], (held.style,)),
    ]

    async def work(house: House) -> list[FloatArray]:
        await house.latents(request(1, loras=style), loras=(held.style,))
        return await asyncio.gather(*(house.latents(what, like=like, loras=loras) for what, like, loras in orders))

    made = in_house(held, work)
    assert max(runs) == 3
    denoiser = Denoiser(ComponentFolder.open(held.folder / Kind.DENOISER), ONE_THREAD)
    lora = Lora(ComponentFolder.open(held.folder / "lora-style"), ONE_THREAD)
    for latents, (what, like, loras) in zip(made, orders, strict=True):
        arrays = lora_arrays([(lora, 0.8)] if loras else [])
        rows: dict[str, Arrays] = {} if like is None else image_prompt_rows(like, what.image_prompt_scale or 0)
        adapted: dict[str, Arrays] = {row: {**arrays, **rows.get(row, {})} for row in Row}
        [job] = denoise_jobs(what, ENCODED, denoiser.contract, adapted=adapted)
        np.testing.assert_array_equal(latents, denoiser.denoise(job))
    assert len({latents.tobytes() for latents in made}) == 3


def test_a_walk_goes_on_elsewhere_under_the_same_control(held: Held) -> None:
    what, controls = request(10), (by(held.edges, 1),)

    async def work(house: House) -> tuple[FloatArray, FloatArray]:
        reports = [report async for report in house.reports(what, controls=controls, report_every=1)]
        snapshot = reports[0].progress
        for report in reports[1:4]:
            snapshot = snapshot.after(report.progress)
        assert reports[-1].latents is not None
        return reports[-1].latents, await house.latents(what, controls=controls, snapshot=snapshot)

    np.testing.assert_array_equal(*in_house(held, work))


def test_a_fault_of_a_controlnet_is_told_of_it_and_takes_no_other_walk_with_it(
    held: Held, monkeypatch: pytest.MonkeyPatch, serve_log: pytest.LogCaptureFixture
) -> None:
    def lost(*_: object) -> None:
        raise RuntimeFault("controlnet: the device is lost")

    monkeypatch.setattr(ControlNet, "residuals", lost)

    async def work(house: House) -> list[Any]:
        walks = [house.latents(request(6), controls=(by(held.edges, 1),)), house.latents(request(6, seed=6))]
        made = await asyncio.gather(*walks, return_exceptions=True)
        assert house.deployment._host._suspects == {}
        await house.deployment.check_health()
        return made

    failed, drawn = in_house(held, work)
    assert isinstance(failed, BesideError)
    assert str(failed) == "controlnet: something went wrong in this stage"
    assert drawn.shape == (1, 4, 8, 8)
    errors = [record.getMessage() for record in serve_log.records if record.levelname == "ERROR"]
    assert errors
    assert all(message.startswith("toy.controlnet.edges/1: ") for message in errors)


def test_controlnets_are_opened_when_they_are_named_and_bounded(held: Held) -> None:
    async def work(house: House) -> None:
        versions = house.deployment._controlnets._versions
        await house.latents(request(2))
        assert versions.report() == ()
        await house.latents(request(2), controls=(by(held.edges, 1), by(held.depth, 1)))
        assert {one.pin for one in versions.report()} == {held.edges, held.depth}
        assert {one.users for one in versions.report()} == {0}

    in_house(held, work)

    async def crowded(house: House) -> None:
        with pytest.raises(UnavailableError, match="in use"):
            await house.latents(request(2), controls=(by(held.edges, 1), by(held.depth, 1)))

    in_house(held, crowded, most_controlnet_bytes=1)


def test_the_work_of_controlnets_is_counted_and_keeps_nobody_out(held: Held) -> None:
    async def work(house: House) -> list[int]:
        found = []
        for controls in ((), (by(held.edges, 1),), (by(held.edges, 1, end=0.5), by(held.depth, 1))):
            walk = house.reports(request(20), controls=controls)
            await anext(walk)
            found.append(next(iter(house.deployment._loop._active.values())).ticket.pixels)
            await walk.aclose()  # type: ignore[attr-defined]
        # the largest picture that may run alone may be held by as many as there may be
        whole = RequestRules().most_pixels(held.live.contracts[Kind.DENOISER])
        side = int(whole**0.5)
        picture = ControlOrder(held.edges, Control(), pixels(0, side))
        await house.latents(request(1, side), controls=(picture,) * 4)
        return found

    # 64 latent pixels, and two fifths of them for each ControlNet of an average step
    assert in_house(held, work) == [64, 64 + 26, 64 + 38]
