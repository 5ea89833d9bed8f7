"""What replicas are told to hold, and in which order."""

import asyncio

import pytest

from components.contract import PARTS, Kind
from components.reference import ComponentRef
from registry.errors import RegistryError
from registry.rollout.state import Canary, Shadow, State
from services.messages import LiveModel
from services.rollout.decision import wanted
from services.rollout.replicas import Replicas
from tests.services.conftest import CONTRACTS, record_of
from tests.services.rollout.conftest import FakeStages, ref_of


def test_what_is_live_comes_first_and_what_nobody_is_pinned_to_last(live: LiveModel) -> None:
    canary, new, fallback, shadow = (ref_of(live, Kind.VAE_DECODER, version) for version in (2, 3, 4, 5))
    record = record_of(
        live,
        canary=Canary(ref=canary, percent=1),
        shadow=Shadow(ref=shadow, percent=1),
        fallback=fallback,
        versions=dict.fromkeys((canary, fallback, shadow), CONTRACTS[Kind.VAE_DECODER]),
    )
    now = live.pins[Kind.VAE_DECODER]
    assert wanted(record, None)[Kind.VAE_DECODER] == [now, canary, fallback, shadow]
    others = [pin for kind, pin in live.pins.items() if kind != Kind.VAE_DECODER]
    found = wanted(record, State(components=(*others, new)))
    assert found[Kind.VAE_DECODER] == [now, canary, new, fallback, shadow]
    assert found.keys() == set(PARTS)
    assert found[Kind.DENOISER] == [live.pins[Kind.DENOISER]]
    third = ref_of(live, Kind.DENOISER, 1).model_copy(update={"name": "toy.third_text_encoder"})
    assert wanted(record, State(components=(*others, third)))[Kind.THIRD_TEXT_ENCODER] == [third]


def test_a_replica_that_cannot_prepare_is_told_to_end_until_it_is_gone(live: LiveModel) -> None:
    new = ref_of(live, Kind.VAE_DECODER, 2)
    stages = FakeStages()
    stages.states["vae_decoder#1 toy.vae_decoder/2"] = "failed"

    async def run() -> None:
        replicas = Replicas(stages, 600, lambda: {kind: [new] if kind == Kind.VAE_DECODER else [] for kind in PARTS})
        await replicas.prepare([new])
        assert stages.replaced == {"vae_decoder#1"}
        assert [report.replica for report in replicas.reports[Kind.VAE_DECODER]] == ["vae_decoder#1'"]
        await replicas.hold()
        assert replicas._replaced == set(), "what has ended is forgotten"
        stages.states["toy.vae_decoder/2"] = "failed"
        with pytest.raises(RegistryError, match=r"toy\.vae_decoder/2 could not be prepared"):
            await replicas.prepare([new])

    asyncio.run(run())


def test_what_no_stage_runs_needs_no_preparation(live: LiveModel) -> None:
    preview = ComponentRef(name="toy.preview_decoder", version=1, sha256="0" * 64)

    async def run() -> None:
        replicas = Replicas(FakeStages(), 600, lambda: {kind: [live.pins[kind]] for kind in PARTS})
        await replicas.prepare([preview])

    asyncio.run(run())


def test_a_stage_that_rests_is_not_waited_for_and_one_that_starts_is(live: LiveModel) -> None:
    new = ref_of(live, Kind.VAE_DECODER, 2)

    async def run() -> None:
        stages = FakeStages()
        stages.replicas[Kind.VAE_DECODER] = []
        replicas = Replicas(stages, 600, lambda: {kind: [new] if kind == Kind.VAE_DECODER else [] for kind in PARTS})
        waits = asyncio.create_task(replicas.prepare([new]))
        await stages.asked.wait()
        assert not waits.done(), "nobody said that it rests"
        stages.rest = {Kind.VAE_DECODER}
        await waits

    asyncio.run(run())
