"""The registry is away, slow, wrong or moved by hand while the controller works with it."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from components.contract import Kind
from components.reference import ComponentRef, Selector
from registry.errors import NoSuchVersionError, RegistryAwayError, RegistryError
from registry.registry import Registry
from registry.rollout.plans import plan_promotion
from registry.rollout.standing import standing
from registry.rollout.state import Plan, read
from registry.settings import RegistrySettings
from services.rollout.last_good import keep, kept
from services.rollout.settings import RolloutSettings
from services.rollout.start import begin

pytestmark = pytest.mark.slow  # a registry of its own for every test

Refs = dict[str, ComponentRef]


def test_what_is_live_is_served_on_and_told_of(bench: Any) -> None:
    async def run() -> None:
        async with bench() as b:
            await b.poll()
            live = b.controller.record.live.pins
            b.desk.away = True
            await b.poll()
            record = b.controller.record
            assert record.live.pins == live
            assert record.away_since is not None
            assert b.controller.outage.reason == "the registry in a test does not answer"
            await b.poll()
            assert b.controller.record is record, "it is no news that it is away still"
            await b.controller.watch()
            assert b.metrics.away_for > 0
            b.desk.away = False
            await b.poll()
            assert (b.controller.record.away_since, b.controller.outage.seconds, b.metrics.away_for) == (None, None, 0)

    asyncio.run(run())


@pytest.mark.parametrize("answers", range(12))
def test_away_at_any_moment_it_catches_up_after(bench: Any, registry: Registry, refs: Refs, answers: int) -> None:
    async def run() -> None:
        async with bench() as b:
            await b.poll()
            plan = plan_promotion(registry, [refs["vae_decoder/2"]])
            b.desk.answers = answers
            await b.poll()
            went_live = b.live("vae_decoder") == 2
            assert b.controller.record.away_since is not None or went_live
            if went_live:
                assert b.kept[-1].rollout.components == b.controller.rollout.components, "a restart would go back"
            else:
                assert b.controller.rollout.plan != plan.id
            b.desk.answers, b.desk.away = None, False
            await b.poll()
            await b.poll()
            assert (b.live("vae_decoder"), b.alias("vae_decoder")) == (2, 2)
            assert b.written() == b.controller.rollout
            assert (b.controller.rollout.plan, b.controller.rollout.state) == (plan.id, "live")
            assert b.metrics.outcomes == ["live"], "once"
            assert b.controller.outage.reason is None

    asyncio.run(run())


def test_files_that_never_come_stop_the_plan_in_the_end(bench: Any, registry: Registry, refs: Refs) -> None:
    async def run() -> None:
        async with bench() as b:
            plan = plan_promotion(registry, [refs["vae_decoder/2"]])
            b.gate.raises = RegistryAwayError("the store of artifacts does not answer")
            for _ in range(10):
                await b.poll()
            found = b.written()
            assert (found.state, found.plan, found.reason) == ("stopped", plan.id, str(b.gate.raises))
            assert len(b.gate.tried) == 5

    asyncio.run(run())


@pytest.mark.parametrize("error", [KeyError("registered_model"), ValueError("no JSON"), TypeError("None")])
def test_an_answer_that_is_none_counts_as_away(bench: Any, error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(_registry: Registry, _bundle: str) -> None:
        raise error

    async def run() -> None:
        async with bench() as b:
            await b.poll()
            with monkeypatch.context() as patch:
                patch.setattr(Registry, "survey", wrong)
                await b.poll()
                said = f"the registry's answer cannot be used: {type(error).__name__}"
                assert (b.controller.outage.reason, b.live("vae_decoder")) == (said, 1)
            await b.poll()
            assert b.controller.outage.reason is None

    asyncio.run(run())


def test_a_restart_without_the_registry_serves_what_was_live_last(
    bench: Any, chosen: RolloutSettings, registry: Registry, refs: Refs
) -> None:
    async def run() -> None:
        async with bench(keep=lambda last_good: keep(chosen.memory, last_good)) as b:
            plan_promotion(registry, [refs["vae_decoder/2"]])
            await b.poll()
            b.point("vae_decoder", 3, "candidate")
            await b.poll()
        found = kept(chosen.memory)
        assert found is not None
        async with bench(found, "it is away") as again:
            await again.poll()
            record = again.controller.record
            assert (again.live("vae_decoder"), record.fallback) == (2, refs["vae_decoder/1"])
            assert record.away_since is not None
            again.gate.admitted.add(refs["vae_decoder/3"])
            ref, contract = await again.controller.component(Selector.parse("toy.vae_decoder@candidate"))
            assert (ref, contract.kind) == (refs["vae_decoder/3"], Kind.VAE_DECODER)
            again.desk.away = False
            await again.poll()
            assert (again.live("vae_decoder"), again.gate.tried) == (2, []), "nothing is followed again"

    asyncio.run(run())


def test_a_start_without_the_registry(chosen: RolloutSettings, refs: Refs) -> None:
    begin(chosen)
    gone = chosen.registry.model_copy(update={"tracking_uri": "http://127.0.0.1:9", "retries": 0})
    start, away = begin(chosen.model_copy(update={"registry": RegistrySettings(**gone.model_dump())}))
    assert start.rollout.ref("toy.vae_decoder") == refs["vae_decoder/1"]
    assert "cannot be reached" in str(away)


# --- moved by hand


def test_an_alias_moved_by_hand_is_tried_prepared_and_live(bench: Any, registry: Registry, refs: Refs) -> None:
    async def run() -> None:
        async with bench() as b:
            plan = plan_promotion(registry, [refs["vae_decoder/2"]])
            await b.poll()
            b.point("vae_decoder", 3)
            for _ in range(3):
                await b.poll()
            assert (b.live("vae_decoder"), b.alias("vae_decoder")) == (3, 3)
            assert len(b.gate.tried) == 2
            noted = read(Plan, registry.survey("toy").tags.get("latentworks.plan"))
            assert noted is not None
            assert noted.id != plan.id
            assert (b.written().plan, b.written().state) == (noted.id, "live")
            assert b.written().previous[2] == refs["vae_decoder/2"]
        async with bench() as again:
            await again.poll()
            assert (again.live("vae_decoder"), again.gate.tried) == (3, [])

    asyncio.run(run())


@pytest.mark.parametrize("how", ["restart", "another plan"])
def test_an_alias_moved_by_hand_does_not_bring_the_plan_before_back(
    bench: Any, registry: Registry, refs: Refs, how: str
) -> None:
    async def run() -> None:
        async with bench() as b:
            await b.poll()
            plan_promotion(registry, [refs["vae_decoder/2"]])
            await b.poll()
            b.stages.states["toy.vae_decoder/3"] = "preparing"
            b.point("vae_decoder", 3)
            await b.controller.poll()
            await b.stages.asked.wait()
            now = standing(registry, "toy")
            assert now.pending is not None
            assert refs["vae_decoder/3"] in now.pending.components
            if how == "another plan":
                plan_promotion(registry, [refs["text_encoder/2"]])
                b.stages.states.clear()
                await b.poll()
                await b.poll()
                assert (b.live("vae_decoder"), b.live("text_encoder")) == (3, 2)
                return
        async with bench() as again:
            await again.poll()
            assert again.live("vae_decoder") == 3

    asyncio.run(run())


def test_a_plan_that_comes_between_goes_before_what_was_moved_by_hand(
    bench: Any, registry: Registry, refs: Refs
) -> None:
    async def run() -> None:
        async with bench() as b:
            await b.poll()
            b.point("vae_decoder", 3)
            real = b.desk.survey

            async def survey(bundle: str) -> Any:
                found = await real(bundle)
                b.desk.survey = real
                plan_promotion(registry, [refs["vae_decoder/2"]])
                return found

            b.desk.survey = survey
            await b.poll()
            assert (b.live("vae_decoder"), b.gate.tried) == (1, [])
            await b.poll()
            assert b.live("vae_decoder") == 2

    asyncio.run(run())


def test_an_alias_moved_to_what_is_refused_is_set_back(bench: Any, refs: Refs) -> None:
    async def run() -> None:
        async with bench() as b:
            await b.poll()
            b.gate.refuses["toy.vae_decoder/2"] = "black pictures"
            b.point("vae_decoder", 2)
            await b.poll()
            assert (b.live("vae_decoder"), b.alias("vae_decoder")) == (1, 1)
            assert b.written().state == "stopped"
            for _ in range(3):  # somebody insists
                b.point("vae_decoder", 2)
                await b.poll()
                await b.poll()
                assert (b.live("vae_decoder"), b.alias("vae_decoder")) == (1, 1)
            assert len(b.gate.tried) == 1, "the gate is not kept busy by it"
            assert b.controller.refused == {("toy.vae_decoder", 2): "toy.vae_decoder/2: black pictures"}
            b.point("vae_decoder", 4)
            await b.poll()
            await b.poll()
            assert (b.live("vae_decoder"), b.alias("vae_decoder")) == (1, 1)
            assert "latent space" in b.controller.refused["toy.vae_decoder", 4]
            assert refs["vae_decoder/4"] not in {ref for plan in b.gate.tried for ref in plan.components}

    asyncio.run(run())


def test_a_refusal_is_forgotten_once_the_alias_has_long_moved_on(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        async with bench() as b:
            await b.poll()
            b.gate.refuses["toy.vae_decoder/2"] = "black pictures"
            b.point("vae_decoder", 2)
            await b.poll()
            b.gate.refuses.clear()
            monkeypatch.setattr(b.controller._aliases, "_clock", lambda: float("inf"))
            await b.poll()
            assert b.controller.refused == {}
            b.point("vae_decoder", 2)
            await b.poll()
            assert b.live("vae_decoder") == 2, "it is tried anew"

    asyncio.run(run())


def test_a_flapping_alias_ends_where_it_comes_to_rest(bench: Any) -> None:
    async def run() -> None:
        async with bench() as b:
            await b.poll()
            for turn in range(6):
                b.point("vae_decoder", 2 + turn % 2)
                await b.controller.poll()
            b.point("vae_decoder", 2)
            for _ in range(4):
                await b.poll()
            assert b.live("vae_decoder") == b.alias("vae_decoder")
            assert b.written().components == b.controller.rollout.components
            assert len(b.controller._desk.contracts) <= 8

    asyncio.run(run())


@pytest.mark.parametrize("how", ["damaged", "deleted"])
def test_an_alias_at_nothing_that_can_be_served_is_set_back(bench: Any, registry: Registry, how: str) -> None:
    async def run() -> None:
        async with bench() as b:
            await b.poll()
            with registry.asking() as client:
                if how == "damaged":
                    client.set_model_version_tag("toy.vae_decoder", "2", "contract", "{}")
                else:
                    client.delete_registered_model_alias("toy.vae_decoder", "production")
            if how == "damaged":
                b.point("vae_decoder", 2)
            await b.poll()
            if how == "damaged":
                assert "was not published by Latentworks" in b.controller.refused["toy.vae_decoder", 2]
            await b.poll()
            assert (b.live("vae_decoder"), b.alias("vae_decoder"), b.gate.tried) == (1, 1, [])
            await b.poll()
            assert b.controller.refused == {}

    asyncio.run(run())


def test_an_alias_that_may_not_follow_does_not_undo_the_promotion(
    bench: Any, registry: Registry, refs: Refs, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*_: Any) -> None:
        raise RegistryError("PERMISSION_DENIED")

    async def run() -> None:
        async with bench() as b:
            await b.poll()
            plan_promotion(registry, [refs["vae_decoder/2"]])
            monkeypatch.setattr(Registry, "promote_together", forbidden)
            for _ in range(3):
                await b.poll()
            assert (b.live("vae_decoder"), b.alias("vae_decoder"), b.metrics.outcomes) == (2, 1, ["live"])
            monkeypatch.undo()
            b.point("vae_decoder", 3)
            await b.poll()
            assert b.live("vae_decoder") == 3, "it is followed again once somebody moves it"

    asyncio.run(run())


# --- what else aliases say


def test_the_fallback(bench: Any, registry: Registry, refs: Refs) -> None:
    async def run() -> None:
        async with bench() as b:
            await b.poll()
            assert b.controller.record.fallback is None
            b.point("vae_decoder", 3, "fallback")
            await b.poll()
            assert b.controller.record.fallback is None, "nobody has tried it"
            b.gate.admitted.add(refs["vae_decoder/3"])
            await b.poll()
            assert b.controller.record.fallback == refs["vae_decoder/3"]
            plan_promotion(registry, [refs["vae_decoder/2"]])
            await b.poll()
            assert b.controller.record.fallback == refs["vae_decoder/3"], "the alias goes before what was live"
            b.gate.admitted.add(refs["vae_decoder/4"])
            for version in (4, 2):  # one that does not fit, and the live one itself
                b.point("vae_decoder", version, "fallback")
                await b.poll()
                assert b.controller.record.fallback == refs["vae_decoder/1"], "what was live before"
            await b.controller.watch()
            assert refs["vae_decoder/1"] in b.stages.wanted[-1][Kind.VAE_DECODER]

    asyncio.run(run())


def test_components_that_requests_ask_for(bench: Any, refs: Refs) -> None:
    async def run() -> None:
        async with bench() as b:
            await b.poll()
            said = {
                "toy.vae_decoder/99": "toy.vae_decoder/99 is not in the registry",
                "toy.vae_decoder@nothing": "has no alias 'nothing'; it has production",
                "toy.vae_decoder/2": "toy.vae_decoder/2 has not passed the gate",
                "other.vae_decoder@production": "other.vae_decoder",
            }
            for selector, words in said.items():
                with pytest.raises(NoSuchVersionError, match=words):
                    await b.controller.component(Selector.parse(selector))
            b.gate.admitted.add(refs["vae_decoder/2"])
            assert (await b.controller.component(Selector.parse("toy.vae_decoder/2")))[0] == refs["vae_decoder/2"]
            b.desk.away = True
            await b.poll()
            asked: list[str] = []
            b.desk.survey = b.desk.pin = b.desk.ask = lambda *_: asked.append("")
            for selector in ("toy.vae_decoder/1", "toy.vae_decoder@production", "toy.vae_decoder/2"):
                await b.controller.component(Selector.parse(selector))
            for selector in ("toy.vae_decoder/77", "other.vae_decoder@x", "toy.text_encoder/2"):
                with pytest.raises(RegistryAwayError):
                    await b.controller.component(Selector.parse(selector))
            assert not asked, "callers do not wait for a registry that is known to be away"

    asyncio.run(run())


def test_latents_of_any_version_that_was_live_can_be_decoded(bench: Any, registry: Registry, refs: Refs) -> None:
    selector = Selector.parse("toy.vae_decoder/1")

    async def run() -> None:
        async with bench() as b:
            for version in (2, 3):
                plan_promotion(registry, [refs[f"vae_decoder/{version}"]])
                await b.poll()
            assert (await b.controller.component(selector))[0] == refs["vae_decoder/1"]
            b.point("vae_decoder", 1, "fallback")
            await b.poll()
            assert b.controller.record.fallback == refs["vae_decoder/1"], "it was live, and goes before /2"
            kept_last = b.kept[-1]
        async with bench(kept_last, "it is away") as again:
            assert (await again.controller.component(selector))[0] == refs["vae_decoder/1"]

    asyncio.run(run())


def test_what_was_ever_live_outlasts_a_start(
    bench: Any, chosen: RolloutSettings, registry: Registry, refs: Refs
) -> None:
    async def run() -> None:
        async with bench(keep=lambda last_good: keep(chosen.memory, last_good)) as b:
            for version in (2, 3):
                plan_promotion(registry, [refs[f"vae_decoder/{version}"]])
                await b.poll()
        async with bench() as again:
            await again.poll()
            found = await again.controller.component(Selector.parse("toy.vae_decoder/1"))
            assert found[0] == refs["vae_decoder/1"]

    asyncio.run(run())


def test_what_passed_is_kept_for_a_start_without_the_registry(bench: Any, refs: Refs) -> None:
    async def run() -> None:
        async with bench() as b:
            b.point("vae_decoder", 3, "candidate")
            await b.poll()
            b.gate.admitted.add(refs["vae_decoder/3"])
            await b.poll()
            written = len(b.kept)
            assert b.kept[-1].admitted == (refs["vae_decoder/3"],)
            await b.poll()
            assert len(b.kept) == written, "once"

    asyncio.run(run())


def test_a_replica_that_cannot_fetch_just_now_is_no_reason_to_refuse(bench: Any) -> None:
    async def run() -> None:
        async with bench(prepare_s=0.2) as b:
            await b.poll()
            b.stages.states["toy.vae_decoder/2"] = "away"
            b.point("vae_decoder", 2)
            await b.poll()
            assert (b.live("vae_decoder"), b.stages.replaced, b.controller.refused) == (1, set(), {})
            assert b.metrics.outcomes == []
            b.stages.states.clear()
            await b.poll()
            assert b.live("vae_decoder") == 2

    asyncio.run(run())


def test_a_registry_that_was_emptied_meanwhile_stays_away(
    bench: Any, registry: Registry, refs: Refs, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        async with bench() as b:
            plan_promotion(registry, [refs["vae_decoder/2"]])
            await b.poll()
            b.desk.away = True
            await b.poll()
            b.desk.away = False
            real = Registry.version

            def set_back(self: Registry, name: str, version: int) -> Any:
                if (name, version) == ("toy.vae_decoder", 2):
                    raise RegistryError("toy.vae_decoder/2 is not in the registry")
                return real(self, name, version)

            b.tag("latentworks.rollout", "{")
            b.point("vae_decoder", 1)
            with monkeypatch.context() as patch:
                patch.setattr(Registry, "version", set_back)
                await b.poll()
                assert b.live("vae_decoder") == 2
                assert "has not toy.vae_decoder/2" in str(b.controller.outage.reason)

    asyncio.run(run())


def test_an_alias_waits_for_the_lock_of_others_without_holding_up_the_rest(
    bench: Any, registry: Registry, refs: Refs, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def busy(_registry: Registry, wait_s: float) -> Iterator[None]:
        raise RegistryError(f"another process has kept the lock for {wait_s:g} s")
        yield

    async def run() -> None:
        async with bench() as b:
            await b.poll()
            plan = plan_promotion(registry, [refs["vae_decoder/2"]])
            with monkeypatch.context() as patch:
                patch.setattr(Registry, "writing", busy)
                await b.poll()
                await b.poll()
                assert (b.live("vae_decoder"), b.alias("vae_decoder")) == (2, 1)
                assert (b.written().plan, b.written().state) == (plan.id, "live"), "the record does not wait"
            await b.poll()
            assert b.alias("vae_decoder") == 2, "it was owed still"

    asyncio.run(run())
