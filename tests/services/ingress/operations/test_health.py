"""Alive, ready, figures."""

from typing import Any

import pytest

from services.standing import Standing
from tests.services.ingress.conftest import DEPLOYMENTS

Server = Any


def test_alive(server: Server) -> None:
    assert server.request("GET", "/healthz").json() == {"status": "ok"}


def test_ready_while_pictures_can_be_drawn(server: Server) -> None:
    assert server.request("GET", "/readyz").json() == {
        "status": "ready",
        "replicas": dict.fromkeys(DEPLOYMENTS, 1),
        "registry": "ok",
        "registry_away_s": None,
    }


@pytest.mark.parametrize("name", ["text_encoder", "denoiser", "vae_decoder", "graph", "ingress"])
def test_not_ready_without_what_a_picture_goes_through(server: Server, name: str) -> None:
    server.standings[name] = Standing(0, False)
    response = server.request("GET", "/readyz")
    assert response.status_code == 503
    assert response.json()["error"]["message"] == f"no running replica of {name}"
    assert response.headers["retry-after"] == "3"
    del server.standings[name]
    assert server.request("GET", "/readyz").status_code == 503


@pytest.mark.parametrize("name", ["rollout", "latents", "vae_encoder"])
def test_ready_without_what_no_picture_needs_and_says_so(server: Server, name: str) -> None:
    server.standings[name] = Standing(0, False)
    answer = server.request("GET", "/readyz")
    assert (answer.status_code, answer.json()["replicas"][name]) == (200, 0)


def test_ready_while_a_stage_rests_and_says_so(server: Server) -> None:
    server.standings["denoiser"] = Standing(0, True, rests=True)
    answer = server.request("GET", "/readyz")
    assert (answer.status_code, answer.json()["replicas"]["denoiser"]) == (200, 0)


def test_ready_without_the_registry_and_says_so(server: Server) -> None:
    server.away_s = 12.5
    answer = server.request("GET", "/readyz")
    assert answer.status_code == 200
    assert (answer.json()["registry"], answer.json()["registry_away_s"]) == ("away", 12.5)


def test_not_ready_and_takes_no_requests_while_draining(server: Server) -> None:
    server.admission.draining = True
    assert server.request("GET", "/readyz").status_code == 503
    assert server.generate(prompt="a").status_code == 503
    assert server.request("GET", "/healthz").status_code == 200


def test_metrics_page(server: Server) -> None:
    response = server.request("GET", "/metrics")
    assert response.headers["content-type"].startswith("text/plain")
    assert "ray_latentworks_images_total" in response.text
