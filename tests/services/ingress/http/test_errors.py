"""What callers hear of everything that can go wrong, and what only the log says."""

import asyncio
import json
import pickle

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
from services.errors import (
    AuthenticationError,
    DeadlineExceededError,
    FieldError,
    GivenUpError,
    KeyLimitError,
    OverloadedError,
    PermissionDeniedError,
    ServingError,
    StartError,
    UnavailableError,
)
from services.ingress.http.errors import answer, shape_at
from services.keys.records import KeyLineError

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


@pytest.mark.parametrize(("told", "said"), [(17, "17"), (1, "1"), (None, "7")])
def test_what_the_denoiser_says_of_its_queue_is_what_the_caller_waits(told: int | None, said: str) -> None:
    raised = OverloadedError("as much work waits as may wait; try again later", told)
    for error in (raised, across(raised)):
        response = answer(error, 7)
        assert (response.status_code, response.headers["retry-after"]) == (429, said)
        body = json.loads(text_of(response))["error"]
        assert (body["type"], body["code"], body["param"]) == ("rate_limit_error", "overloaded", None)


def test_a_deadline_that_passed_is_named_and_not_to_be_tried_again(serve_log: pytest.LogCaptureFixture) -> None:
    raised = DeadlineExceededError("deadline_s=3: has passed after 4 of 9 steps", "deadline_s")
    for error in (raised, across(raised)):
        response = answer(error, 7)
        assert response.status_code == 504
        assert "retry-after" not in response.headers
        body = json.loads(text_of(response))["error"]
        assert (body["type"], body["code"], body["param"]) == ("timeout_error", "deadline_exceeded", "deadline_s")
    assert serve_log.messages == []


def test_a_request_that_stops_replicas_is_given_up_with_its_own_code() -> None:
    raised = GivenUpError("2 replicas of the denoiser stopped, one after the other, while they worked on this request")
    for error in (raised, across(raised)):
        response = answer(error, 7)
        assert response.status_code == 500
        assert "retry-after" not in response.headers
        body = json.loads(text_of(response))["error"]
        assert (body["type"], body["code"]) == ("server_error", "given_up")
        assert body["message"] == raised.message


@pytest.mark.parametrize(
    "raised",
    [
        ServingError("a stage failed"),
        StartError("no such version"),
        FieldError("n=0: must be 1", "n"),
        UnavailableError("about to stop"),
        DeadlineExceededError("deadline_s=3: has passed", "deadline_s"),
        GivenUpError("2 replicas stopped"),
        OverloadedError("as much work waits as may wait", 17),
        OverloadedError("as much work waits as may wait"),
        KeyLimitError("this key may ask for 6 pictures a minute", 17),
        AuthenticationError("no key was given", ('Bearer realm="latentworks"',)),
        PermissionDeniedError("this key may not do this"),
        KeyLineError(3, "has burst twice"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_every_error_survives_the_way_between_processes(raised: ServingError) -> None:
    copy = pickle.loads(pickle.dumps(raised))
    assert type(copy) is type(raised)
    parts = ["message", "param", "args", "status", "type", "code"]
    if isinstance(raised, OverloadedError):
        parts.append("retry_after_s")
    assert [getattr(copy, part) for part in parts] == [getattr(raised, part) for part in parts]
    assert str(copy) == raised.message


def test_a_stage_that_failed_is_named() -> None:
    response = answer(across(ServingError("denoiser: something went wrong in this stage")), 7)
    assert (response.status_code, json.loads(text_of(response))["error"]["code"]) == (500, "internal_error")
    assert "denoiser" in text_of(response)


@pytest.mark.parametrize(
    ("root", "path", "theirs"),
    [
        ("", "/sdapi/v1/txt2img", True),
        ("/below", "/below/sdapi/v1/txt2img", True),
        ("/below", "/sdapi/v1/txt2img", True),
        ("/sdapi", "/sdapi/v1/images/generations", False),
        ("", "/sdapis", False),
        ("", "/v1/sdapi/x", False),
    ],
)
def test_a_faces_own_shape_is_that_of_its_paths_below_a_root_too(root: str, path: str, theirs: bool) -> None:
    def own(_: ServingError) -> dict[str, str]:
        return {}

    assert (shape_at({"path": path, "root_path": root}, {"/sdapi": own}) is own) is theirs
