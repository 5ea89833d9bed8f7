"""The replicas' reports, one by one: one that does not answer hides no other."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import ActorDiedError, RayTaskError
from ray.serve.exceptions import RayServeException
from ray.serve.schema import DeploymentStatus, DeploymentStatusOverview, DeploymentStatusTrigger, ReplicaState

from components.contract import Kind
from services.messages import LiveModel, ReplicaReport
from services.rollout import stages
from services.rollout.preparation import Preparation
from services.rollout.stages import Stages
from tests.services.rollout.conftest import ref_of, report


class Answers:
    """One replica's answer: a report, an error, or none ever."""

    def __init__(self, answer: ReplicaReport | Exception | None) -> None:
        self._answer = answer

    async def get_async(self) -> ReplicaReport:
        if self._answer is None:
            await asyncio.Event().wait()
        if isinstance(self._answer, Exception):
            raise self._answer
        assert self._answer is not None
        return self._answer


def ask(monkeypatch: pytest.MonkeyPatch, *answers: Answers) -> tuple[ReplicaReport, ...]:
    async def fetched() -> list[Answers]:
        return list(answers)

    response = SimpleNamespace(_fetch_replica_results_async=fetched)
    handle = SimpleNamespace(broadcast=lambda *_: response)
    monkeypatch.setattr("ray.serve.get_deployment_handle", lambda *_: handle)
    monkeypatch.setattr(stages, "_ANSWER_S", 0.05)
    found: Any = asyncio.run(Stages("a test").hold({Kind.VAE_DECODER: []}, set()))
    return tuple(found[Kind.VAE_DECODER])


def test_one_that_does_not_answer_hides_no_other(monkeypatch: pytest.MonkeyPatch, live: LiveModel) -> None:
    new = ref_of(live, Kind.VAE_DECODER, 2)
    good = report("a", (new, "loaded"))
    found = ask(monkeypatch, Answers(None), Answers(good), Answers(RayTaskError("hold", "", ValueError("no"))))
    assert found[1] == good
    assert [one.versions for one in found if one != good] == [(), ()]
    assert not Preparation([new], 10, lambda: 0.0).ready({Kind.VAE_DECODER: found}), "two have not said"


def test_one_that_has_died_is_not_waited_for(monkeypatch: pytest.MonkeyPatch, live: LiveModel) -> None:
    good = report("a", (ref_of(live, Kind.VAE_DECODER, 2), "loaded"))
    assert ask(monkeypatch, Answers(ActorDiedError()), Answers(good)) == (good,)


@pytest.mark.parametrize(("status", "rests"), [("HEALTHY", [Kind.VAE_DECODER]), ("UNHEALTHY", [])])
def test_which_stages_rest(monkeypatch: pytest.MonkeyPatch, status: str, rests: list[Kind]) -> None:
    def said(name: str, replicas: int) -> DeploymentStatusOverview:
        states = {ReplicaState.RUNNING: replicas} if replicas else {}
        return DeploymentStatusOverview(DeploymentStatus(name), DeploymentStatusTrigger.AUTOSCALING, states, "")

    deployments = {"denoiser": said("HEALTHY", 2), "vae_decoder": said(status, 0), "graph": said("HEALTHY", 0)}
    found = SimpleNamespace(applications={"a test": SimpleNamespace(deployments=deployments)})
    monkeypatch.setattr("ray.serve.status", lambda: found)
    assert asyncio.run(Stages("a test").resting()) == rests


def test_without_serves_controller_no_stage_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    def away() -> Any:
        raise RayServeException("shut down")

    monkeypatch.setattr("ray.serve.status", away)
    assert list(asyncio.run(Stages("a test").resting())) == []
