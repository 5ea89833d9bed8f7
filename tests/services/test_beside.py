"""What only some requests need, without Ray: adapters and the image encoder as deployments, and who is let in."""

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.contract import Kind
from components.folder import ComponentFolder
from components.reference import ComponentRef
from pipeline.adapter import Adapter
from pipeline.image_encoder import ImageEncoder
from registry.bundle import publish_bundle
from registry.errors import RegistryError
from registry.gate.examine import GateSettings
from registry.registry import Registry
from runtime.errors import RuntimeFault
from runtime.session import Session
from services.adapter import AdapterDeployment
from services.errors import BesideError, ServingError, StartError
from services.image_encoder import ImageEncoderDeployment
from services.messages import Encoding, Order, Outcome
from services.outcomes import outcomes_of
from services.rollout import gatekeeper
from services.rollout.desk import Desk
from services.rollout.gatekeeper import Gatekeeper
from services.rollout.settings import RolloutSettings
from services.rollout.start import begin
from services.stage_args import StageArgs
from services.stage_host import StageSettings
from tests.requests import image_request
from tests.services.controlled import FOREIGN_LORA, write_controlled, write_controlnet, write_lora
from tests.services.test_controlled_walks import ONE_THREAD, Held, pixels
from tests.services.test_controlled_walks import held as held


def settings(held: Held) -> StageSettings:
    return StageSettings(registry=held.registry, args=StageArgs(threads=1))


def encoder_of(held: Held) -> ComponentRef:
    return Registry.connect(held.registry).version("toy.image_encoder", 1).ref


def test_an_adapter_is_opened_when_it_is_named_and_makes_what_it_makes_in_one_process(held: Held) -> None:
    async def run() -> Any:
        deployment = AdapterDeployment(settings(held))
        assert deployment._host._versions.report() == ()
        worked = await deployment.features(held.lines, pixels(3))
        await deployment.check_health()
        assert [one.pin for one in deployment._host._versions.report()] == [held.lines]
        return worked.made

    made = asyncio.run(run())
    expected = Adapter(ComponentFolder.open(held.folder / "adapter-lines"), ONE_THREAD).features(pixels(3))
    assert made.keys() == expected.keys()
    np.testing.assert_array_equal(made["adapter_0"], expected["adapter_0"])


def test_the_image_encoder_makes_what_it_makes_in_one_process(held: Held) -> None:
    squares = [pixels(seed, 16) for seed in (3, 4)]

    async def run() -> Any:
        deployment = ImageEncoderDeployment(settings(held))
        worked = await deployment.tokens(encoder_of(held), squares)
        await deployment.check_health()
        return worked.made

    made = asyncio.run(run())
    stage = ImageEncoder(ComponentFolder.open(held.folder / Kind.IMAGE_ENCODER), ONE_THREAD)
    for name, array in stage.tokens(squares).items():
        np.testing.assert_array_equal(made[name], array)
        assert array.shape == (1, 2 * 2, 64)


def test_a_fault_is_none_of_the_live_versions(held: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        deployment = AdapterDeployment(settings(held))
        await deployment.features(held.lines, pixels(3))

        def lost(*_: object) -> None:
            raise RuntimeFault("adapter: the device is lost")

        monkeypatch.setattr(Session, "run", lost)
        for _ in range(3):
            with pytest.raises(BesideError, match="adapter: something went wrong in this stage") as failed:
                await deployment.features(held.lines, pixels(3))
        order = Order(image_request(), held.live.pins, Encoding())
        assert outcomes_of(order, failed.value) == []
        assert Outcome(held.live.pins[Kind.DENOISER], error=True) in outcomes_of(order, ServingError("another"))
        # nobody is live here: the version goes, not the replica
        await deployment.check_health()
        assert deployment._host._versions.report() == ()

    asyncio.run(run())


def test_a_version_of_another_kind_cannot_be_opened(held: Held) -> None:
    async def run() -> None:
        with pytest.raises(StartError, match="is a controlnet, must be a adapter"):
            await AdapterDeployment(settings(held)).features(held.edges, pixels(3))

    asyncio.run(run())


def test_what_a_start_put_into_production_is_let_in_and_what_comes_later_is_tried(
    held: Held, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []

    def refusals(_registry: object, wanted: Any, live: Any, *_: object) -> list[str]:
        tried.extend(str(ref) for ref in wanted.components if ref not in live.components)
        return []

    monkeypatch.setattr(gatekeeper, "refusals", refusals)
    later = Registry.connect(held.registry).publish(write_controlnet(tmp_path / "late", 9), "toy.controlnet.late")

    async def run() -> None:
        start, _ = begin(RolloutSettings(bundle="toy", folder=held.folder, registry=held.registry))
        desk = Desk(held.registry, start.contracts)
        gate = Gatekeeper(desk, held.registry, GateSettings())
        for ref in (held.edges, held.lines, held.style, encoder_of(held)):
            assert await gate.admits(ref), ref
        assert not await gate.admits(later)
        for ref in (held.depth, later):
            gate.consider([ref], start.rollout)
            assert gate._trying is not None
            await gate._trying
        assert tried == [str(later)]
        assert await gate.admits(later)
        gate.close()
        desk.close()

    asyncio.run(run())


def test_a_bundle_with_a_lora_for_another_denoiser_is_not_published(held: Held, tmp_path: Path) -> None:
    folder = write_controlled(tmp_path / "toy")
    write_lora(folder / "lora-other", 3, FOREIGN_LORA)
    with pytest.raises(RegistryError, match="other: the denoiser takes no LoRA there"):
        publish_bundle(Registry.connect(held.registry), folder, "toy")
