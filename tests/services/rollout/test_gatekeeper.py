"""The gate beside the event loop: what passed is remembered, what aliases point at is tried once."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from components.reference import ComponentRef
from registry.errors import RegistryAwayError, RegistryError
from registry.registry import Registry
from registry.rollout.state import Plan, Rollout, with_changes
from services.rollout import gatekeeper
from services.rollout.gatekeeper import Gatekeeper
from services.rollout.settings import RolloutSettings
from services.rollout.start import begin
from tests.services.rollout.conftest import FlakyDesk

Refs = dict[str, ComponentRef]
Gated = Callable[[], Any]


class FakeTrials:
    """In the place of `refusals`, which runs a child process: says what a test gives it, and notes what was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.exempt: list[tuple[ComponentRef, ...]] = []
        self.raises: Exception | None = None
        self.found: list[str] = []
        self.let_go = threading.Event()
        self.let_go.set()

    def __call__(self, _registry: object, wanted: Any, live: Rollout, _settings: object, tried: Any) -> list[str]:
        self.exempt.append(tuple(tried))
        self.asked += [str(ref) for ref in wanted.components if ref not in live.components]
        self.let_go.wait()
        if self.raises is not None:
            raise self.raises
        return self.found


@pytest.fixture
def trials(monkeypatch: pytest.MonkeyPatch) -> FakeTrials:
    made = FakeTrials()
    monkeypatch.setattr(gatekeeper, "refusals", made)
    return made


@pytest.fixture
def gated(chosen: RolloutSettings, monkeypatch: pytest.MonkeyPatch) -> Gated:
    passed: set[str] = {"toy.vae_decoder/2"}
    monkeypatch.setattr(gatekeeper, "passed", lambda version, _tolerance: str(version.ref) in passed)

    @asynccontextmanager
    async def made() -> AsyncIterator[tuple[Gatekeeper, FlakyDesk, Rollout]]:
        start = begin(chosen)[0]
        desk = FlakyDesk(chosen.registry, start.contracts)
        gate = Gatekeeper(desk, chosen.registry, chosen.gate)
        try:
            yield gate, desk, start.rollout
        finally:
            gate.close()
            desk.close()

    return made


async def considered(gate: Gatekeeper, pointed: list[ComponentRef], live: Rollout) -> None:
    gate.consider(pointed, live)
    if gate._trying is not None:
        await asyncio.wait([gate._trying])


def test_what_passed_is_remembered(gated: Gated, refs: Refs) -> None:
    async def run() -> None:
        async with gated() as (gate, desk, _live):
            assert await gate.admits(refs["vae_decoder/2"])
            assert not await gate.admits(refs["vae_decoder/3"])
            desk.away = True
            assert await gate.admits(refs["vae_decoder/2"])
            assert gate.admitted == {refs["vae_decoder/2"]}
            with pytest.raises(RegistryAwayError):
                await gate.admits(refs["vae_decoder/4"])

    asyncio.run(run())


def test_a_plan_is_tried_beside_what_is_live(gated: Gated, trials: FakeTrials, refs: Refs) -> None:
    async def run() -> None:
        async with gated() as (gate, _desk, live):
            trials.found = ["toy.vae_decoder/2: black pictures"]
            components = (*live.components[:2], refs["vae_decoder/2"], live.components[3])
            assert await gate.refusals(Plan(id="a" * 32, components=components), live) == trials.found
            assert trials.asked == ["toy.vae_decoder/2"]

    asyncio.run(run())


def test_what_aliases_point_at_is_tried_once_each_and_one_at_a_time(
    gated: Gated, trials: FakeTrials, refs: Refs
) -> None:
    pointed = [refs["vae_decoder/1"], refs["vae_decoder/2"], refs["vae_decoder/3"]]

    async def run() -> None:
        async with gated() as (gate, _desk, live):
            trials.let_go.clear()
            gate.consider(pointed, live)
            while not trials.asked:
                await asyncio.sleep(0.01)
            gate.consider(pointed, live)
            trials.let_go.set()
            for _ in range(4):
                await considered(gate, pointed, live)
            assert trials.asked == ["toy.vae_decoder/2", "toy.vae_decoder/3"], "what is live is not tried"
            assert list(gate.admitted) == [refs["vae_decoder/2"], refs["vae_decoder/3"]]

    asyncio.run(run())


def test_what_was_live_before_and_never_tried_is_tried(gated: Gated, trials: FakeTrials, refs: Refs) -> None:
    async def run() -> None:
        async with gated() as (gate, _desk, live):
            ref = refs["vae_decoder/3"]
            await considered(gate, [ref], live.model_copy(update={"former": (ref,)}))
            assert trials.exempt == [()]
            assert gate.admitted == {ref}
            await gate.refusals(
                Plan(id="a" * 32, components=live.components), live.model_copy(update={"former": (ref,)})
            )
            assert trials.exempt[-1] == (ref,), "it may come back without"

    asyncio.run(run())


def test_what_is_refused_is_tried_again_beside_other_versions_only(
    gated: Gated, trials: FakeTrials, refs: Refs
) -> None:
    async def run() -> None:
        async with gated() as (gate, _desk, live):
            trials.found = ["it does not fit toy.text_encoder/1"]
            for _ in range(3):
                await considered(gate, [refs["vae_decoder/3"]], live)
            assert (trials.asked, gate.admitted) == (["toy.vae_decoder/3"], set())
            trials.found = []
            others = with_changes(live.components, [refs["text_encoder/2"]])
            await considered(gate, [refs["vae_decoder/3"]], live.model_copy(update={"components": others}))
            assert gate.admitted == {refs["vae_decoder/3"]}

    asyncio.run(run())


def test_what_could_not_be_tried_is_tried_again_later(
    gated: Gated, trials: FakeTrials, refs: Refs, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        async with gated() as (gate, _desk, live):
            trials.raises = OSError("full")
            await considered(gate, [refs["vae_decoder/3"]], live)
            trials.raises = None
            await considered(gate, [refs["vae_decoder/3"]], live)
            assert gate.admitted == set()
            monkeypatch.setattr(gatekeeper, "_RETRY_S", 0.0)
            await considered(gate, [refs["vae_decoder/3"]], live)
            assert gate.admitted == {refs["vae_decoder/3"]}

    asyncio.run(run())


def test_callers_that_ask_in_vain_do_not_keep_the_registry_busy(
    gated: Gated, refs: Refs, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        async with gated() as (gate, desk, _live):
            asked: list[str] = []
            real = Registry.version

            def version(self: Registry, name: str, number: int) -> Any:
                asked.append(threading.current_thread().name)
                return real(self, name, number)

            monkeypatch.setattr(Registry, "version", version)
            for _ in range(3):
                assert not await gate.admits(refs["vae_decoder/3"])
                with pytest.raises(RegistryError, match="is not in the registry"):
                    await desk.pin_for_caller("toy.vae_decoder", 99)
            assert len(asked) == 2
            assert all(name.startswith("callers") for name in asked), "the controller's own thread is free"

    asyncio.run(run())


def test_a_plan_does_not_wait_for_what_is_tried_beside_it(gated: Gated, trials: FakeTrials, refs: Refs) -> None:
    async def run() -> None:
        async with gated() as (gate, _desk, live):
            trials.let_go.clear()
            gate.consider([refs["vae_decoder/3"]], live)
            while not trials.asked:
                await asyncio.sleep(0.01)
            components = (*live.components[:2], refs["vae_decoder/2"], live.components[3])
            plan = asyncio.create_task(gate.refusals(Plan(id="a" * 32, components=components), live))
            while len(trials.asked) < 2:
                await asyncio.sleep(0.01)
            trials.let_go.set()
            assert await plan == []
            assert gate._trying is not None
            await asyncio.wait([gate._trying])

    asyncio.run(run())


@pytest.mark.parametrize(
    ("error", "times"),
    [(RegistryAwayError("gone"), 3), (RegistryError("no"), 1), (OSError("full"), 1), (KeyError("what"), 1)],
)
def test_only_a_registry_that_is_away_is_a_reason_to_try_again(
    gated: Gated, trials: FakeTrials, refs: Refs, error: Exception, times: int
) -> None:
    async def run() -> None:
        async with gated() as (gate, _desk, live):
            trials.raises = error
            for _ in range(3):
                await considered(gate, [refs["vae_decoder/2"]], live)
            assert len(trials.asked) == times
            assert gate.admitted == set()

    asyncio.run(run())


def test_nothing_of_a_kind_without_a_stage_is_tried(gated: Gated, trials: FakeTrials) -> None:
    async def run() -> None:
        async with gated() as (gate, _desk, live):
            preview = ComponentRef(name="toy.preview_decoder", version=1, sha256="0" * 64)
            await considered(gate, [preview], live)
            assert trials.asked == []

    asyncio.run(run())


def test_what_passed_before_a_restart_still_counts(chosen: RolloutSettings, refs: Refs) -> None:
    async def run() -> None:
        desk = FlakyDesk(chosen.registry, {})
        desk.away = True
        gate = Gatekeeper(desk, chosen.registry, chosen.gate, [refs["vae_decoder/3"]])
        assert await gate.admits(refs["vae_decoder/3"])
        assert gate.admitted == {refs["vae_decoder/3"]}
        desk.close()

    asyncio.run(run())
