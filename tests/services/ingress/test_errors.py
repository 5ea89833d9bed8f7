"""What callers hear of everything that can go wrong, and what only the log says."""

import asyncio
import json

import pytest
from ray.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    LocalRayletDiedError,
    NodeDiedError,
    ObjectFetchTimedOutError,
    ObjectLostError,
    ObjectStoreFullError,
    OutOfMemoryError,
    OwnerDiedError,
    RayError,
    RayTaskError,
    WorkerCrashedError,
)
from ray.serve._private.common import DeploymentID
from ray.serve.exceptions import (
    BackPressureError,
    DeploymentUnavailableError,
    ReplicaUnavailableError,
    RequestCancelledError,
)
from starlette.responses import Response

from pipeline.errors import refuse
from services.errors import FieldError, ServingError, StartError
from services.ingress.errors import answer

SECRET = "/root/.latentworks/components cannot be written"
LOST = ("0" * 56, None, "")


def across(error: Exception) -> Exception:
    """As it comes out of another deployment's process."""
    told = RayTaskError("denoise", "a stack", error, proctitle="replica", pid=1, ip="127.0.0.1")
    dual: Exception = told.as_instanceof_cause()
    return dual


def text_of(response: Response) -> str:
    return bytes(response.body).decode()


@pytest.mark.parametrize(
    "raised",
    [
        WorkerCrashedError(),
        OwnerDiedError(*LOST),
        ObjectLostError(*LOST),
        ObjectFetchTimedOutError(*LOST),
        OutOfMemoryError(SECRET),
        ObjectStoreFullError(SECRET),
        NodeDiedError(SECRET),
        LocalRayletDiedError(),
        ActorDiedError(),
        ActorUnavailableError(SECRET, None),
        ReplicaUnavailableError("replica-1"),
        DeploymentUnavailableError(DeploymentID("denoiser")),
        RequestCancelledError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_is_gone_may_be_tried_again(raised: Exception, serve_log: pytest.LogCaptureFixture) -> None:
    for error in (raised, across(raised)):
        response = answer(error, 7)
        assert (response.status_code, response.headers["retry-after"]) == (503, "7")
        body = json.loads(text_of(response))["error"]
        assert (body["type"], body["code"], body["param"]) == ("server_error", "unavailable", None)
        assert "again" in body["message"]
        assert SECRET not in body["message"]
    assert serve_log.messages == []


def test_too_many_that_wait() -> None:
    response = answer(across(BackPressureError(3, 2)), 7)
    assert (response.status_code, response.headers["retry-after"]) == (429, "7")


@pytest.mark.parametrize("raised", [FieldError("n=0: must be 1", "n"), refuse("n", 0, "1")])
def test_a_field_at_fault_is_named_from_any_process(raised: Exception) -> None:
    response = answer(across(raised), 7)
    assert response.status_code == 422
    assert json.loads(text_of(response))["error"]["param"] == "n"
    assert "retry-after" not in response.headers


def test_a_component_that_cannot_be_had_is_told_without_its_place(serve_log: pytest.LogCaptureFixture) -> None:
    response = answer(across(StartError(f"toy.denoiser/1: the cache {SECRET}")), 7)
    assert (response.status_code, response.headers["retry-after"]) == (503, "7")
    assert "root" not in text_of(response)
    assert serve_log.messages == [f"request failed: toy.denoiser/1: the cache {SECRET}"]


@pytest.mark.parametrize("raised", [KeyError(SECRET), RayError(SECRET), asyncio.InvalidStateError(SECRET)])
def test_of_what_nobody_expected_only_the_name_is_logged(
    raised: Exception, serve_log: pytest.LogCaptureFixture
) -> None:
    response = answer(across(raised), 7)
    assert response.status_code == 500
    assert SECRET not in text_of(response) + serve_log.text
    assert serve_log.messages == [f"request failed: {type(raised).__name__}"]


def test_a_stage_that_failed_is_named() -> None:
    response = answer(across(ServingError("denoiser: something went wrong in this stage")), 7)
    assert (response.status_code, json.loads(text_of(response))["error"]["code"]) == (500, "internal_error")
    assert "denoiser" in text_of(response)
