"""What operators ask of the rollout, and MLflow's webhooks."""

import json
import time
from typing import Any

import pytest
from fastapi import FastAPI
from mlflow.webhooks.delivery import _generate_hmac_signature
from pydantic import SecretStr

from services.ingress.app import create_app
from services.ingress.operations.rollout import RolloutFace
from services.metrics.ingress import IngressMetrics
from tests.services.ingress.conftest import error_of

Server = Any
WEBHOOK = "/v1/registry/webhook"
BODY = json.dumps({"entity": "model_version_alias", "action": "created", "data": {"name": "toy.vae_decoder"}})


def signed(secret: str = "a secret", age_s: int = 0, body: str = BODY) -> dict[str, str]:
    """The headers that MLflow sends."""
    delivery, timestamp = "delivery-1", str(int(time.time()) - age_s)
    return {
        "content-type": "application/json",
        "x-mlflow-delivery-id": delivery,
        "x-mlflow-timestamp": timestamp,
        "x-mlflow-signature": _generate_hmac_signature(secret, delivery, timestamp, body),
    }


def test_what_the_controller_says_of_itself(server: Server) -> None:
    response = server.request("GET", "/v1/rollout")
    assert (response.status_code, response.json()) == (200, {"bundle": "toy"})


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("the cache /home/me/.latentworks cannot be written: full", "the cache (a path) cannot be written: full"),
        ("the registry at http://mlflow.internal:5000/x refused: no", "the registry at (an address) refused: no"),
        ("sqlite:////srv/a.db, and 10.0.0.7:5000", "(an address), and (an address)"),
        ("No such file: '/srv/my files/a.onnx'", "No such file: '(a path)'"),
        ("(~/x), latents.store=/srv/y: full", "((a path)), latents.store=(a path): full"),
        *[
            (harmless, harmless)
            for harmless in (
                "toy.vae_decoder/2 does not fit toy.denoiser/1: 1/2 and/or 0.5 / 3",
                "NAME/VERSION: onnxruntime 1.22.0 gave 3.2e-05",
            )
        ],
    ],
)
def test_reasons_are_told_without_paths_and_addresses(server: Server, reason: str, told: str) -> None:
    def status(why: str) -> dict[str, Any]:
        version = {"name": "toy.vae_decoder", "version": 2, "reason": why}
        replica = {"replica": "vae_decoder#1", "versions": [version]}
        return {"reason": why, "registry_away_s": None, "refused": [version], "replicas": {"vae_decoder": [replica]}}

    server.controller.status = status(reason)
    assert server.request("GET", "/v1/rollout").json() == status(told)


def test_a_webhook_of_mlflow_has_the_registry_asked(server: Server) -> None:
    response = server.request("POST", WEBHOOK, content=BODY, headers=signed())
    assert (response.status_code, response.content, server.controller.hints) == (202, b"", 1)
    assert server.request("POST", WEBHOOK, content=BODY, headers=signed(age_s=-200)).status_code == 202


@pytest.mark.parametrize(
    "headers",
    [
        {},
        signed("another secret"),
        signed(age_s=301),
        signed(age_s=-3000),
        signed(body=BODY + " "),
        {**signed(), "x-mlflow-timestamp": "0"},
        {**signed(), "x-mlflow-timestamp": "9" * 5000},
        {**signed(), "x-mlflow-delivery-id": "delivery-2"},
        {**signed(), "x-mlflow-signature": signed()["x-mlflow-signature"].removeprefix("v1,")},
        {**signed(), "x-mlflow-signature": "\xff"},
    ],
    ids=["none", "secret", "old", "early", "body", "timestamp", "huge", "delivery", "version", "not ascii"],
)
def test_others_are_turned_away(server: Server, headers: dict[str, str]) -> None:
    raw = {name: value.encode("latin-1") for name, value in headers.items()}
    error = error_of(server.request("POST", WEBHOOK, content=BODY, headers=raw), 401)
    assert "signature" in error["message"]
    assert (error["code"], error["type"]) == ("invalid_signature", "invalid_request_error")
    assert "a secret" not in json.dumps(error)
    assert server.controller.hints == 0


def test_a_timestamp_that_is_no_number_is_too_old_though_it_is_signed(server: Server) -> None:
    for timestamp in ("", "now", "-5", "1e9", "\u0661", "9" * 4301):
        headers = {**signed(), "x-mlflow-timestamp": timestamp}
        headers["x-mlflow-signature"] = _generate_hmac_signature("a secret", "delivery-1", timestamp, BODY)
        raw = {name: value.encode("utf-8") for name, value in headers.items()}
        error_of(server.request("POST", WEBHOOK, content=BODY, headers=raw), 401)
    assert server.controller.hints == 0


def test_a_long_body_is_not_read(server: Server) -> None:
    error_of(server.request("POST", WEBHOOK, content=b" " * 2**23, headers=signed()), 413)


def test_without_a_secret_there_is_no_such_route(server: Server) -> None:
    face = RolloutFace(server.controller.show, server.controller.hint, None)
    server.app = create_app([face], IngressMetrics(), 1)
    assert isinstance(server.app, FastAPI)
    error_of(server.request("POST", WEBHOOK, content=BODY, headers=signed()), 404)
    assert server.request("GET", "/v1/rollout").status_code == 200


def test_the_secret_is_not_shown() -> None:
    async def nothing() -> Any:
        return {}

    assert "a secret" not in repr(RolloutFace(nothing, nothing, SecretStr("a secret")))
