"""How deployments stand, by what Serve's controller says of them."""

import asyncio
import threading

import pytest
from ray import serve
from ray.exceptions import ActorDiedError
from ray.serve.exceptions import RayServeException
from ray.serve.schema import (
    ApplicationStatusOverview,
    DeploymentStatus,
    DeploymentStatusOverview,
    DeploymentStatusTrigger,
    ReplicaState,
    ServeStatus,
)

from services.errors import UnavailableError
from services.standing import Standing, Standings

HEALTHY, DOWNSCALING, UPSCALING, UPDATING, UNHEALTHY, DEPLOY_FAILED = (
    DeploymentStatus(name) for name in ("HEALTHY", "DOWNSCALING", "UPSCALING", "UPDATING", "UNHEALTHY", "DEPLOY_FAILED")
)


def standing(status: DeploymentStatus, **replicas: int) -> Standing:
    states = {ReplicaState(name): count for name, count in replicas.items()}
    said = DeploymentStatusOverview(status, DeploymentStatusTrigger.AUTOSCALING, states, "")
    return Standing.of(said)


@pytest.mark.parametrize(
    ("status", "replicas", "expected"),
    [
        (HEALTHY, {"RUNNING": 2}, Standing(2, True)),
        # scaled to zero, and on the way there
        (HEALTHY, {}, Standing(0, True, rests=True)),
        (DOWNSCALING, {"STOPPING": 1}, Standing(0, True, rests=True)),
        (DOWNSCALING, {"RUNNING": 1}, Standing(1, True)),
        # the first starts
        (UPSCALING, {}, Standing(0, True)),
        (UPSCALING, {"STARTING": 1}, Standing(0, True)),
        # one is on its way, whatever the status says of it
        (DOWNSCALING, {"STARTING": 1, "STOPPING": 1}, Standing(0, True)),
        # the first start of all
        (UPDATING, {"STARTING": 1}, Standing(0, False)),
        (UPDATING, {"RUNNING": 1, "STARTING": 1}, Standing(1, True)),
        # the only one has died, or none can start
        (UNHEALTHY, {}, Standing(0, False)),
        (UNHEALTHY, {"RUNNING": 1, "STARTING": 1}, Standing(1, True)),
        (DEPLOY_FAILED, {}, Standing(0, False)),
    ],
)
def test_who_serves_and_who_rests(status: DeploymentStatus, replicas: dict[str, int], expected: Standing) -> None:
    assert standing(status, **replicas) == expected


@pytest.mark.parametrize("raised", [ActorDiedError(), RayServeException("shut down"), ConnectionError("no head")])
def test_a_controller_that_is_away(raised: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def away() -> ServeStatus:
        raise raised

    monkeypatch.setattr(serve, "status", away)
    with pytest.raises(UnavailableError, match="controller does not answer"):
        asyncio.run(Standings("default")())


def test_a_controller_that_does_not_know_us(monkeypatch: pytest.MonkeyPatch) -> None:
    # what Serve says while no controller runs
    monkeypatch.setattr(serve, "status", lambda: ServeStatus())
    with pytest.raises(UnavailableError, match="does not know the application"):
        asyncio.run(Standings("default")())


def test_outside_of_serve_nothing_is_asked() -> None:
    with pytest.raises(UnavailableError, match="outside of Serve"):
        asyncio.run(Standings("")())


def test_an_account_of_a_moment_ago_does_while_a_newer_one_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    back = threading.Event()
    asked: list[None] = []
    told = ServeStatus(applications={"default": ApplicationStatusOverview("RUNNING", "", 0.0, {})})

    def status() -> ServeStatus:
        asked.append(None)
        if len(asked) > 1:
            back.wait()
        return told

    monkeypatch.setattr(serve, "status", status)
    monkeypatch.setattr("services.standing._FRESH_S", 0.0)

    async def run() -> None:
        standings = Standings("default", old_s=3600)
        first = await standings()
        assert await standings() is first
        assert await standings() is first
        while len(asked) < 2:
            await asyncio.sleep(0.01)
        assert await standings() is first
        assert len(asked) == 2, "one at a time"
        back.set()
        while await standings() is first:
            await asyncio.sleep(0.01)
        # without that, whoever comes waits for the newer one
        back.clear()
        strict = Standings("default", patience_s=0.1)
        with pytest.raises(UnavailableError):
            await strict()
        back.set()

    asyncio.run(run())


def test_nobody_waits_for_a_controller_that_was_found_away(monkeypatch: pytest.MonkeyPatch) -> None:
    back = threading.Event()
    asked: list[None] = []

    def status() -> ServeStatus:
        asked.append(None)
        back.wait()
        return ServeStatus()

    monkeypatch.setattr(serve, "status", status)

    async def run() -> None:
        standings = Standings("default", patience_s=0.1)
        for _ in range(3):
            with pytest.raises(UnavailableError, match="controller does not answer"):
                # those after the first have no patience left
                await asyncio.wait_for(standings(), 30)
        assert len(asked) == 1
        back.set()
        while True:
            try:
                await standings()
            except UnavailableError as error:
                if "does not know the application" in error.message:
                    return
                await asyncio.sleep(0.01)

    asyncio.run(run())
