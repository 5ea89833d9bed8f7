"""Work that is done again where a replica stopped, with the exceptions that Ray raises for it."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from ray.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    LocalRayletDiedError,
    NodeDiedError,
    ObjectLostError,
    ObjectStoreFullError,
    OutOfMemoryError,
    OwnerDiedError,
    RayActorError,
    RayTaskError,
    WorkerCrashedError,
)
from ray.serve.exceptions import BackPressureError, ReplicaUnavailableError, RequestCancelledError

from pipeline.errors import RequestError
from services.errors import (
    DeadlineExceededError,
    GivenUpError,
    OverloadedError,
    ServingError,
    StartError,
    UnavailableError,
)
from services.metrics.graph import GraphMetrics
from services.retries import LOST, MOST_LOST, Losses, again_where_lost

METRICS = GraphMetrics()
OBJECT = ("0" * 56, None, "")
GONE = [
    RayActorError(),
    ActorDiedError(),
    ActorUnavailableError("the connection broke", None),
    WorkerCrashedError(),
    NodeDiedError("the node is gone"),
    LocalRayletDiedError(),
    OutOfMemoryError("killed"),
    ObjectLostError(*OBJECT),
    OwnerDiedError(*OBJECT),
    ReplicaUnavailableError("replica-1"),
]
OTHERS = [
    ServingError("denoiser: something went wrong in this stage"),
    StartError("toy.denoiser/1: cannot be had"),
    OverloadedError("as much work waits as may wait", 3),
    DeadlineExceededError("deadline_s=1: has passed", "deadline_s"),
    RequestError("steps", "steps=3: must be even"),
    UnavailableError("the server is about to stop"),
    BackPressureError(3, 2),
    RequestCancelledError(),
    ObjectStoreFullError("full"),
    KeyError("ours"),
    asyncio.CancelledError(),
]


def across(error: Exception) -> Exception:
    """As it comes out of another deployment's process."""
    told = RayTaskError("encode", "a stack", error, proctitle="replica", pid=1, ip="127.0.0.1")
    dual: Exception = told.as_instanceof_cause()
    return dual


def replicas(*ends: BaseException | str) -> Callable[[], Awaitable[str]]:
    """A call that each time another replica takes, which ends as `ends` says; more calls than ends are a fault."""
    left = iter(ends)

    async def call() -> str:
        end = next(left, None)
        assert end is not None, "it was tried once more than it may be"
        if isinstance(end, BaseException):
            raise end
        return end

    return call


def name_of(error: object) -> str:
    return type(error).__name__


@pytest.mark.parametrize("gone", GONE, ids=name_of)
def test_a_replica_that_stopped_costs_one_more_try(gone: Exception) -> None:
    for error in (gone, across(gone)):
        assert asyncio.run(again_where_lost("text_encoder", METRICS, replicas(error, "texts"))) == "texts"


@pytest.mark.parametrize("gone", GONE, ids=name_of)
def test_a_request_that_stops_two_replicas_is_given_up(gone: Exception) -> None:
    with pytest.raises(GivenUpError, match="2 replicas of the vae_decoder stopped.*not tried again"):
        asyncio.run(again_where_lost("vae_decoder", METRICS, replicas(gone, across(gone))))


def test_what_stopped_them_need_not_be_the_same() -> None:
    with pytest.raises(GivenUpError):
        asyncio.run(
            again_where_lost("vae_decoder", METRICS, replicas(ActorDiedError(), NodeDiedError("the node is gone")))
        )


@pytest.mark.parametrize("other", OTHERS, ids=name_of)
def test_what_another_replica_would_not_mend_is_not_tried_again(other: BaseException) -> None:
    assert not isinstance(other, LOST)
    with pytest.raises(type(other)):
        asyncio.run(again_where_lost("text_encoder", METRICS, replicas(other)))
    if isinstance(other, Exception):
        with pytest.raises(type(other)):
            asyncio.run(again_where_lost("text_encoder", METRICS, replicas(across(other))))


def test_a_refusal_after_a_loss_is_the_refusal() -> None:
    with pytest.raises(RequestError, match="even"):
        asyncio.run(
            again_where_lost("text_encoder", METRICS, replicas(ActorDiedError(), RequestError("steps", "be even")))
        )


def test_the_first_replica_may_have_stopped_for_anything() -> None:
    for told in ((), (True,), (False,)):
        losses = Losses("denoiser", METRICS)
        for at_risk in told:
            losses.told(at_risk)
        losses.count()


@pytest.mark.parametrize("told", [(), (True,), (False, True)])
def test_who_is_at_risk_when_the_second_stops_is_given_up(told: tuple[bool, ...]) -> None:
    losses = Losses("denoiser", METRICS)
    losses.count()
    for at_risk in told:
        losses.told(at_risk)
    with pytest.raises(GivenUpError, match="2 replicas of the denoiser stopped, one after the other"):
        losses.count()


def test_who_only_waits_when_others_stop_is_tried_again() -> None:
    losses = Losses("denoiser", METRICS)
    losses.count()
    for _ in range(5):
        losses.told(True)
        losses.told(False)
        losses.count()
    with pytest.raises(GivenUpError, match="7 replicas"):
        losses.count()


def test_who_got_past_the_place_is_cleared_but_not_for_ever() -> None:
    losses = Losses("denoiser", METRICS)
    for _ in range(MOST_LOST - 1):
        losses.told(True)
        losses.cleared()
        losses.count()
    losses.cleared()
    with pytest.raises(GivenUpError, match=f"{MOST_LOST} replicas"):
        losses.count()


def test_a_request_of_its_own_has_losses_of_its_own() -> None:
    first, second = Losses("denoiser", METRICS), Losses("denoiser", METRICS)
    first.count()
    second.count()
    with pytest.raises(GivenUpError):
        first.count()
