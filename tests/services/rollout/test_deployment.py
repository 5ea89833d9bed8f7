"""The controller's deployment, without Serve: its tasks, its answers to callers, and what it tells MLflow."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from components.contract import Kind
from components.reference import ComponentRef
from registry.errors import RegistryAwayError, RegistryError
from registry.registry import Registry
from registry.rollout.plans import plan_promotion, plan_shadow
from registry.rollout.presence import has_server
from registry.rollout.shadow_runs import log_shadow
from registry.rollout.state import Shadow
from services.errors import FieldError, UnavailableError
from services.messages import LiveRecord, ShadowResult
from services.rollout import deployment
from services.rollout.deployment import RolloutDeployment
from services.rollout.settings import RolloutSettings
from tests.services.rollout.conftest import FakeStages

Refs = dict[str, ComponentRef]
Deployed = Callable[[], Any]


@pytest.fixture
def deployed(chosen: RolloutSettings, monkeypatch: pytest.MonkeyPatch) -> Deployed:
    """Start it on the test's registry; it polls when it is told to."""
    monkeypatch.setattr(deployment, "Stages", lambda _application: FakeStages())
    monkeypatch.setattr("ray.serve.get_replica_context", lambda: SimpleNamespace(app_name="a test"))
    monkeypatch.setattr("services.rollout.gatekeeper.refusals", lambda *_: [])
    monkeypatch.setattr("services.rollout.gatekeeper.passed", lambda *_: True)

    @asynccontextmanager
    async def made() -> AsyncIterator[RolloutDeployment]:
        shell: Any = RolloutDeployment.__new__(RolloutDeployment)
        await shell.__init__(chosen.model_copy(update={"poll_s": 3600.0}))
        try:
            yield shell
        finally:
            shell.__del__()
            await asyncio.gather(*shell._tasks, return_exceptions=True)

    return made


async def news(shell: RolloutDeployment, until: Callable[[LiveRecord], bool]) -> LiveRecord:
    record = await shell.record()
    while record is None or not until(record):
        record = await shell.record(None if record is None else record.stamp, 600)
    return record


def test_a_hint_has_a_plan_followed_at_once(deployed: Deployed, registry: Registry, refs: Refs) -> None:
    async def run() -> None:
        async with deployed() as shell:
            await news(shell, lambda record: bool(record.aliases))
            plan_promotion(registry, [refs["vae_decoder/2"]])
            await shell.hint()
            record = await news(shell, lambda record: record.live.pins[Kind.VAE_DECODER].version == 2)
            assert record.fallback == refs["vae_decoder/1"]
            assert (await shell.status())["live"][2]["version"] == 2
            assert await shell.component("toy.vae_decoder@production", "components.vae_decoder") == (
                refs["vae_decoder/2"],
                record.live.contracts[Kind.VAE_DECODER],
            )
            await shell.check_health()

    asyncio.run(run())


def test_what_callers_ask_for_in_vain(deployed: Deployed, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.rollout.gatekeeper.passed", lambda *_: False)
    with registry.asking() as client:
        client.delete_model_version_tag("toy.vae_decoder", "3", "sha256")

    async def run() -> None:
        async with deployed() as shell:
            await news(shell, lambda record: bool(record.aliases))
            for selector, said in (
                ("nonsense", "f: 'nonsense': must be NAME@ALIAS or NAME/VERSION"),
                ("toy.vae_decoder/99", "f: toy.vae_decoder/99 is not in the registry"),
                ("toys.vae_decoder@production", "f: toys.vae_decoder is not in the registry"),
                ("toy.vae_decoder@nothing", "f: toy.vae_decoder has no alias 'nothing'; it has production"),
                ("toy.vae_decoder/2", "f: toy.vae_decoder/2 has not passed the gate"),
                (
                    "toy.vae_decoder/3",
                    "f: toy.vae_decoder/3 was not published by Latentworks: its tag sha256 is missing",
                ),
            ):
                with pytest.raises(FieldError) as caught:
                    await shell.component(selector, "f")
                assert (caught.value.message, caught.value.param) == (said, "f")
            shell._controller.outage.begin("the registry in /secret/path does not answer")
            with pytest.raises(UnavailableError) as unavailable:
                await shell.component("toy.vae_decoder/98", "f")
            assert "/secret" not in unavailable.value.message

    asyncio.run(run())


def test_a_task_that_ended_makes_the_replica_unwell(deployed: Deployed, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        async with deployed() as shell:
            await shell.check_health()

            async def broken() -> None:
                raise AssertionError("a fault of ours")

            monkeypatch.setattr(shell._controller, "poll", broken)
            await shell.hint()
            await asyncio.wait(shell._tasks, return_when=asyncio.FIRST_COMPLETED)
            with pytest.raises(RuntimeError, match="follows nothing any more"):
                await shell.check_health()

    asyncio.run(run())


def _shown(refs: Refs) -> ShadowResult:
    return ShadowResult(
        pin=refs["vae_decoder/2"], live=refs["vae_decoder/1"], psnr_db=float("inf"), seconds=0.1, live_seconds=0.2
    )


def test_what_a_shadow_shows_goes_to_mlflow(
    deployed: Deployed, registry: Registry, refs: Refs, monkeypatch: pytest.MonkeyPatch
) -> None:
    fails: list[Exception] = []
    logged: list[tuple[str | None, int, int]] = []
    real = log_shadow

    def log(*given: Any) -> str:
        if fails:
            raise fails.pop()
        logged.append((given[2], given[3], len(given[4])))
        return real(*given)

    monkeypatch.setattr(deployment, "log_shadow", log)

    async def run() -> None:
        plan_shadow(registry, "toy.vae_decoder", Shadow(ref=refs["vae_decoder/2"], percent=100))
        async with deployed() as shell:
            await news(shell, lambda record: record.shadow is not None)
            await shell.shadowed(_shown(refs))
            await shell._tell_of_shadow()
            run_id = shell._controller.shadow.run
            with registry.asking() as client:
                metrics = client.get_run(run_id).data.metrics
            assert metrics == {"failed": 0.0, "live_seconds": 0.2, "psnr_db": 200.0, "seconds": 0.1}
            for error, run_after in ((RegistryAwayError("gone"), run_id), (RegistryError("deleted"), None)):
                await shell.shadowed(_shown(refs))
                fails.append(error)
                await shell._tell_of_shadow()
                assert shell._controller.shadow.run == run_after
            await shell._tell_of_shadow()
            assert logged[0] == (None, 0, 1)
            assert logged[1] == (None, 1, 2), "nothing was lost, in a new run as the old one is gone"
            await shell._tell_of_shadow()
            assert len(logged) == 2

    asyncio.run(run())


def test_the_registry_knows_of_a_server_until_its_clean_end(deployed: Deployed, registry: Registry) -> None:
    async def run() -> None:
        assert not has_server(registry, "toy")
        async with deployed() as shell:
            await news(shell, lambda record: bool(record.aliases))
            assert has_server(registry, "toy")
        assert not has_server(registry, "toy")

    asyncio.run(run())
