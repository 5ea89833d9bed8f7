"""The rollout in words and numbers."""

import asyncio
import json
from typing import Any

from components.contract import PARTS
from components.reference import ComponentRef
from registry.registry import Registry
from registry.rollout.plans import plan_canary, plan_promotion, plan_shadow
from registry.rollout.state import Canary, Shadow
from services.messages import Outcome, ShadowResult
from services.rollout.status import status

Refs = dict[str, ComponentRef]


def test_a_quiet_rollout(bench: Any) -> None:
    async def run() -> None:
        async with bench() as b:
            await b.poll()
            await b.controller.watch()
            found = status(b.controller)
            assert (found["bundle"], found["state"], found["registry_away_s"]) == ("toy", "live", None)
            assert [one["name"] for one in found["live"]] == [f"toy.{kind}" for kind in PARTS]
            nothing = ("reason", "preparing", "fallback", "canary", "shadow")
            assert [found[name] for name in nothing] == [None] * len(nothing)
            assert found["refused"] == []
            [decoder] = found["replicas"]["vae_decoder"]
            assert (decoder["replica"], decoder["node"]) == ("vae_decoder#1", "node")
            assert decoder["versions"][0]["state"] == "loaded"
            assert decoder["versions"][0].keys() == {
                *("name", "version", "sha256", "state", "reason", "bytes", "seconds", "users")
            }
            json.dumps(found, allow_nan=False)

    asyncio.run(run())


def test_a_busy_rollout(bench: Any, registry: Registry, refs: Refs) -> None:
    async def run() -> None:
        async with bench() as b:
            await b.poll()
            plan_promotion(registry, [refs["text_encoder/2"]])
            await b.poll()
            plan_canary(registry, "toy.vae_decoder", Canary(ref=refs["vae_decoder/2"], percent=10, sticky=True))
            plan_shadow(registry, "toy.vae_decoder", Shadow(ref=refs["vae_decoder/3"], percent=50))
            await b.poll()
            b.controller.note([Outcome(refs["vae_decoder/2"], error=True), Outcome(refs["vae_decoder/1"])])
            shown = ShadowResult(pin=refs["vae_decoder/3"], live=refs["vae_decoder/1"], live_seconds=1.0, failed="no")
            b.controller.shadowed(shown)
            b.gate.refuses["toy.vae_decoder/3"] = "black pictures"
            b.point("vae_decoder", 3)
            await b.poll()
            b.gate.open.clear()
            plan_promotion(registry, [refs["text_encoder/1"]])
            await b.controller.poll()
            # past what it asks of the registry
            while refs["text_encoder/1"] not in b.gate.tried[-1].components:
                await asyncio.sleep(0.01)
            b.desk.away = True
            await b.controller.poll()
            found = status(b.controller)
            assert (found["canary"]["percent"], found["canary"]["sticky"]) == (10, True)
            assert found["canary"]["counts"] == {"requests": 1, "errors": 1, "non_finite": 0}
            assert found["canary"]["live_counts"] == {"requests": 1, "errors": 0, "non_finite": 0}
            assert (found["shadow"]["figures"]["failed"], found["shadow"]["mlflow_run"]) == (1, None)
            assert found["preparing"][0]["version"] == 1
            assert found["live"][0]["version"] == 2
            assert found["refused"] == [
                {"name": "toy.vae_decoder", "version": 3, "reason": "toy.vae_decoder/3: black pictures"}
            ]
            assert found["registry_away_s"] >= 0
            assert found["state"] == "preparing"
            json.dumps(found, allow_nan=False)

    asyncio.run(run())
