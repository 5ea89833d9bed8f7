"""Alive, ready, figures."""

from typing import Any

Server = Any


def test_alive(server: Server) -> None:
    assert server.request("GET", "/healthz").json() == {"status": "ok"}


def test_ready_while_every_deployment_has_a_replica(server: Server) -> None:
    assert server.request("GET", "/readyz").json() == {
        "status": "ready",
        "replicas": {"denoiser": 1, "graph": 2},
        "registry": "ok",
        "registry_away_s": None,
    }
    server.replicas["denoiser"] = 0
    response = server.request("GET", "/readyz")
    assert response.status_code == 503
    assert "denoiser" in response.json()["error"]["message"]
    assert response.headers["retry-after"] == "3"


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
