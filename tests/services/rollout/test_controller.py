"""The controller follows plans: from the registry's tag to what new requests are pinned to."""

import asyncio
from typing import Any

import pytest

from components.contract import Kind
from components.reference import ComponentRef
from registry.errors import RegistryAwayError
from registry.registry import Registry
from registry.rollout.plans import plan_canary, plan_promotion, plan_rollback, plan_shadow
from registry.rollout.standing import standing
from registry.rollout.state import Canary, Rollout, Shadow
from services.messages import Outcome
from services.rollout.last_good import resumed

Refs = dict[str, ComponentRef]


def test_a_plan_is_live_once_every_replica_has_prepared_it(bench: Any, registry: Registry, refs: Refs) -> None:
    async def run() -> None:
        async with bench() as b:
            await b.poll()
            assert b.live("vae_decoder") == 1
            b.stages.replicas[Kind.VAE_DECODER] = ["a", "b"]
            b.stages.states["b toy.vae_decoder/2"] = "preparing"
            plan = plan_promotion(registry, [refs["vae_decoder/2"]])
            before = b.controller.record
            await b.controller.poll()
            b.stages.asked.clear()
            await b.stages.asked.wait()
            assert (b.controller.record, b.controller.preparing) == (before, plan), "one replica has it not"
            assert b.written().state == "preparing"
            assert refs["vae_decoder/2"] in b.stages.wanted[-1][Kind.VAE_DECODER]
            b.stages.states.clear()
            news = await b.controller.later(before.stamp, 600)
            assert news is not None
            assert news.live.pins[Kind.VAE_DECODER] == refs["vae_decoder/2"]
            await b.followed()
            assert b.alias("vae_decoder") == 2, "the alias follows"
            assert (b.written().state, b.written().plan, b.controller.preparing) == ("live", plan.id, None)
            assert b.kept[-1].rollout == b.controller.rollout
            assert b.metrics.outcomes == ["live"]
            assert b.controller.record.fallback == refs["vae_decoder/1"], "what was live before"

    asyncio.run(run())


def test_several_go_live_together(bench: Any, registry: Registry, refs: Refs) -> None:
    async def run() -> None:
        async with bench() as b:
            await b.poll()
            plan_promotion(registry, [refs["vae_decoder/2"], refs["text_encoder/2"]])
            stamp = b.controller.record.stamp
            await b.poll()
            assert (b.live("vae_decoder"), b.live("text_encoder"), b.live("denoiser")) == (2, 2, 1)
            assert (b.alias("vae_decoder"), b.alias("text_encoder")) == (2, 2)
            assert b.controller.record.stamp != stamp
            plan_rollback(registry, "toy")
            await b.poll()
            assert (b.live("vae_decoder"), b.live("text_encoder")) == (1, 1)

    asyncio.run(run())


def test_what_is_live_is_measured(bench: Any, registry: Registry, refs: Refs) -> None:
    async def run() -> None:
        async with bench() as b:
            await b.controller.watch()
            plan_promotion(registry, [refs["vae_decoder/2"]])
            await b.poll()
            await b.controller.watch()
            measured = [pins[Kind.VAE_DECODER] for pins in b.metrics.live]
            assert (measured[0], measured[-1]) == (refs["vae_decoder/1"], refs["vae_decoder/2"])
            assert b.metrics.live[-1] == b.controller.record.live.pins

    asyncio.run(run())


@pytest.mark.parametrize("how", ["gate", "replica"])
def test_a_plan_that_is_stopped_leaves_what_was_live(bench: Any, registry: Registry, refs: Refs, how: str) -> None:
    async def run() -> None:
        async with bench() as b:
            await b.poll()
            plan = plan_promotion(registry, [refs["vae_decoder/2"]])
            if how == "gate":
                b.gate.refuses["toy.vae_decoder/2"] = "black pictures"
            else:
                b.stages.states["toy.vae_decoder/2"] = "failed"
            await b.poll()
            assert (b.live("vae_decoder"), b.alias("vae_decoder")) == (1, 1)
            found = b.written()
            assert (found.state, found.plan) == ("stopped", plan.id)
            said = "toy.vae_decoder/2: black pictures" if how == "gate" else "toy.vae_decoder/2 could not be prepared"
            assert said in str(found.reason)
            assert b.metrics.outcomes == ["stopped"]
            tried = len(b.gate.tried)
            await b.poll()
            assert len(b.gate.tried) == tried, "it is not followed again"
            if how == "replica":
                assert b.stages.replaced == {"vae_decoder#1"}, "replaced once"

    asyncio.run(run())


def test_a_newer_plan_takes_the_place_of_one_in_preparation(bench: Any, registry: Registry, refs: Refs) -> None:
    async def run() -> None:
        async with bench() as b:
            await b.poll()
            b.stages.states["toy.vae_decoder/2"] = "preparing"
            plan_promotion(registry, [refs["vae_decoder/2"]])
            await b.controller.poll()
            await b.stages.asked.wait()
            plan_rollback(registry, "toy")  # it undoes what is pending
            newest = plan_promotion(registry, [refs["vae_decoder/3"]])
            await b.poll()
            assert (b.live("vae_decoder"), b.alias("vae_decoder")) == (3, 3)
            assert b.written().plan == newest.id
            assert b.metrics.outcomes == ["live"]

    asyncio.run(run())


def test_a_plan_that_was_followed_is_not_followed_again_after_a_restart(
    bench: Any, registry: Registry, refs: Refs
) -> None:
    async def run() -> None:
        async with bench() as b:
            plan_promotion(registry, [refs["vae_decoder/2"]])
            await b.poll()
            await b.poll()
        async with bench() as again:
            await again.poll()
            assert (again.live("vae_decoder"), again.gate.tried) == (2, [])

    asyncio.run(run())


@pytest.mark.parametrize("remembered", ["registry", "disk"])
def test_a_plan_under_way_is_taken_up_again_after_a_restart(
    bench: Any, registry: Registry, refs: Refs, remembered: str
) -> None:
    async def run() -> None:
        async with bench() as b:
            await b.poll()
            b.stages.states["toy.vae_decoder/2"] = "preparing"
            plan_promotion(registry, [refs["vae_decoder/2"]])
            await b.controller.poll()
            await b.stages.asked.wait()
            b.point("vae_decoder", 3, "candidate")
            await b.controller.poll()
            if remembered == "disk":
                assert b.kept[-1].rollout.state == "preparing"
        start = None
        if remembered == "disk":
            start = b.kept[-1].model_copy(update={"rollout": resumed(b.kept[-1].rollout)})
        async with bench(start) as again:
            assert again.controller.rollout.state == "live"
            await again.poll()
            assert again.live("vae_decoder") == 2

    asyncio.run(run())


def test_a_shadow_and_a_canary_are_prepared_and_published(bench: Any, registry: Registry, refs: Refs) -> None:
    async def run() -> None:
        async with bench() as b:
            plan_canary(registry, "toy.vae_decoder", Canary(ref=refs["vae_decoder/2"], percent=10))
            await b.poll()
            plan_shadow(registry, "toy.vae_decoder", Shadow(ref=refs["vae_decoder/3"], percent=50))
            await b.poll()
            record = b.controller.record
            assert record.canary is not None
            assert record.shadow is not None
            assert (record.canary.ref, record.shadow.ref) == (refs["vae_decoder/2"], refs["vae_decoder/3"])
            assert {refs["vae_decoder/2"], refs["vae_decoder/3"]} <= record.versions.keys()
            assert b.live("vae_decoder") == 1
            watch, log = b.controller.canary, b.controller.shadow
            plan_promotion(registry, [refs["text_encoder/2"]])
            await b.poll()
            assert (b.controller.canary, b.controller.shadow) == (watch, log), "both go on with their counts"
            await b.controller.watch()
            held = b.stages.wanted[-1][Kind.VAE_DECODER]
            assert held[0] == refs["vae_decoder/1"]
            assert set(held) == {refs[f"vae_decoder/{version}"] for version in (1, 2, 3)}

    asyncio.run(run())


def _fails(ref: ComponentRef, times: int) -> list[Outcome]:
    return [Outcome(ref, error=True)] * times


def test_a_canary_that_does_too_badly_ends_by_itself(bench: Any, registry: Registry, refs: Refs) -> None:
    async def run() -> None:
        async with bench() as b:
            plan = plan_canary(registry, "toy.vae_decoder", Canary(ref=refs["vae_decoder/2"], percent=50, least=5))
            await b.poll()
            b.controller.note(_fails(refs["vae_decoder/2"], 4))
            assert b.controller.record.canary is not None, "there were too few"
            b.desk.away = True
            b.controller.note(_fails(refs["vae_decoder/2"], 1))
            assert b.controller.record.canary is None, "at once, and whether the registry answers or not"
            assert (b.controller.canary, b.metrics.rolled_back) == (None, 1)
            await b.poll()
            assert b.kept[-1].rollout.canary is None, "a restart without the registry would have it again"
            b.desk.away = False
            await b.poll()
            found = b.written()
            assert (found.canary, found.plan) == (None, plan.id)
            assert "toy.vae_decoder/2 was rolled back: 5 of its 5 requests failed" in str(found.reason)
            assert standing(registry, "toy").wanted.canary is None

    asyncio.run(run())


@pytest.mark.parametrize("end", ["live", "stopped", "away", "newer"])
def test_a_canary_that_ends_while_a_plan_is_prepared_stays_ended(
    bench: Any, registry: Registry, refs: Refs, end: str
) -> None:
    async def run() -> None:
        async with bench() as b:
            canary = Canary(ref=refs["vae_decoder/2"], percent=50, least=1)
            plan_canary(registry, "toy.vae_decoder", canary)
            await b.poll()
            b.gate.open.clear()
            plan_promotion(registry, [refs["text_encoder/2"]])
            await b.controller.poll()
            if end != "live":  # else it ends after the plan was read and before it is taken up
                while not b.gate.tried[1:]:
                    await asyncio.sleep(0.01)
            b.controller.note(_fails(refs["vae_decoder/2"], 1))
            assert b.controller.record.canary is None
            if end == "stopped":
                b.gate.refuses["toy.text_encoder/2"] = "no"
            if end == "away":
                b.gate.raises = RegistryAwayError("gone")
            if end == "newer":
                plan_shadow(registry, "toy.vae_decoder", Shadow(ref=refs["vae_decoder/3"], percent=50))
                await b.controller.poll()
            b.gate.open.set()
            await b.followed()
            assert b.controller.record.canary is None
            assert b.controller.rollout.canary is None
            assert b.live("text_encoder") == (2 if end in ("live", "newer") else 1)
            if end == "live":
                assert "rolled back" in str(b.controller.rollout.reason)
                plan_canary(registry, "toy.vae_decoder", canary)
                await b.poll()
                assert b.controller.record.canary == canary, "somebody wants it again, as it was"
                assert b.controller.canary is not None
                assert b.controller.canary.tallies == {}

    asyncio.run(run())


def test_who_waits_for_news_gets_it_or_none(bench: Any) -> None:
    async def run() -> None:
        async with bench() as b:
            await b.poll()
            record = b.controller.record
            assert await b.controller.later(None, 0) is record
            assert await b.controller.later(record.stamp, 0) is None
            assert await b.controller.later("of another controller", 600) is record

    asyncio.run(run())


def test_a_disk_that_refuses_changes_nothing(bench: Any, registry: Registry, refs: Refs) -> None:
    written: list[Rollout] = []
    full = True

    def keep(last_good: Any) -> None:
        if full:
            raise OSError(28, "No space left on device")
        written.append(last_good.rollout)

    async def run() -> None:
        nonlocal full
        async with bench(keep=keep) as b:
            plan_promotion(registry, [refs["vae_decoder/2"]])
            await b.poll()
            assert (b.live("vae_decoder"), written) == (2, [])
            full = False
            await b.poll()
            assert written[-1] == b.controller.rollout, "it is kept once there is room"

    asyncio.run(run())


def test_a_survey_older_than_the_decision_does_not_undo_it(bench: Any, registry: Registry, refs: Refs) -> None:
    async def run() -> None:
        async with bench() as b:
            await b.poll()
            b.gate.open.clear()
            plan_promotion(registry, [refs["vae_decoder/2"]])
            await b.controller.poll()
            while not b.gate.tried:
                await asyncio.sleep(0.01)
            real = b.desk.survey

            async def late(bundle: str) -> Any:
                found = await real(bundle)
                b.gate.open.set()
                await b.followed()
                return found

            b.desk.survey = late
            b.point("text_encoder", 2, "candidate")
            await b.poll()
            b.desk.survey = real
            await b.poll()
            await b.poll()
            assert (b.live("vae_decoder"), b.alias("vae_decoder"), b.metrics.outcomes) == (2, 2, ["live"])
            assert b.controller.record.aliases["toy.text_encoder"]["candidate"] == refs["text_encoder/2"]

    asyncio.run(run())
