"""Plans that anyone with access to the registry may have written, and what breaks while one is followed."""

import asyncio
from typing import Any

import pytest

from components.contract import PARTS, Kind
from components.reference import ComponentRef
from registry.registry import Registry
from registry.rollout.plans import plan_promotion
from registry.rollout.state import Plan, written

pytestmark = pytest.mark.slow  # a registry of its own for every test

Refs = dict[str, ComponentRef]


def _plan(components: list[ComponentRef], **more: Any) -> str:
    return written(Plan(id="a" * 32, components=tuple(components), **more))


@pytest.mark.parametrize(
    ("which", "said"),
    [
        ("a part", "no version of toy.text_encoder, toy.denoiser, toy.vae_encoder"),
        ("digest", "not 0000"),
        ("gone", "toy.vae_decoder/99 is not in the registry"),
        ("mismatch", "latent space id"),
        ("wholly another bundle", "the versions named are those of bundle other"),
        ("another bundle", "must be components of one bundle"),
    ],
)
def test_a_plan_that_could_not_serve_is_stopped(bench: Any, refs: Refs, which: str, said: str) -> None:
    one = refs["vae_decoder/2"]
    parts = [refs[f"{kind}/1"] for kind in PARTS if kind != Kind.VAE_DECODER]
    components = {
        "a part": [one],
        "digest": [*parts, one.model_copy(update={"sha256": "0" * 64})],
        "gone": [*parts, one.model_copy(update={"version": 99})],
        "mismatch": [*parts, refs["vae_decoder/4"]],
        "wholly another bundle": [
            ref.model_copy(update={"name": ref.name.replace("toy", "other")}) for ref in (*parts, one)
        ],
        "another bundle": [*parts, one, one.model_copy(update={"name": "other.vae_decoder"})],
    }

    async def run() -> None:
        async with bench() as b:
            await b.poll()
            b.tag("latentworks.plan", _plan(components[which]))
            await b.poll()
            assert (b.live("vae_decoder"), b.controller.rollout.state) == (1, "stopped")
            assert said in str(b.controller.rollout.reason)
            assert b.written() == b.controller.rollout
            assert b.gate.tried == []

    asyncio.run(run())


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"id": "x", "components": []}', '{"components": [{"name": "no component"}]}', "\0" * 20]
)
def test_a_damaged_plan_is_told_of_and_nothing_more(bench: Any, refs: Refs, text: str) -> None:
    async def run() -> None:
        async with bench() as b:
            await b.poll()
            b.tag("latentworks.plan", text)
            await b.poll()
            assert ("latentworks.plan", 0) in b.controller.refused
            assert b.controller.outage.reason is None
            b.point("vae_decoder", 2)
            await b.poll()
            assert b.live("vae_decoder") == 2, "the alias is followed all the same"
            b.tag("latentworks.plan", _plan([refs[f"{kind}/1"] for kind in PARTS]))
            await b.poll()
            assert (b.live("vae_decoder"), b.controller.refused) == (1, {})

    asyncio.run(run())


def test_whatever_breaks_while_a_plan_is_followed_stops_it(bench: Any, registry: Registry, refs: Refs) -> None:
    async def run() -> None:
        async with bench() as b:
            b.gate.raises = OSError(28, "No space left on device", "/secret/path")
            plan_promotion(registry, [refs["vae_decoder/2"]])
            await b.poll()
            assert b.controller.rollout.reason == "something went wrong: OSError"
            b.gate.raises = None
            await b.poll()
            assert (len(b.gate.tried), b.live("vae_decoder")) == (1, 1)

    asyncio.run(run())


def test_a_record_too_long_for_a_tag_does_not_make_the_controller_deaf(
    bench: Any, registry: Registry, refs: Refs, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        async with bench() as b:
            await b.poll()
            plan_promotion(registry, [refs["vae_decoder/2"]])
            monkeypatch.setattr("registry.rollout.state.MAX_RECORD_CHARACTERS", 900)
            await b.poll()
            await b.poll()
            assert (b.live("vae_decoder"), b.alias("vae_decoder")) == (2, 2)
            assert b.controller.outage.reason is None
            assert "characters" in b.controller.refused["latentworks.rollout", 0]
            monkeypatch.undo()
            await b.poll()
            assert b.written() == b.controller.rollout
            assert b.controller.refused == {}

    asyncio.run(run())
