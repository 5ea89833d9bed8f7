"""Keys at A1111's face: its clients send them as the password of HTTP Basic."""

import json
from typing import Any

import pytest
import webuiapi

from tests.services.ingress.a1111.conftest import API, refused
from tests.services.ingress.access.test_tenants import ANN, OPERATOR, with_keys
from tests.services.ingress.conftest import listening

Server = Any


def test_a_key_is_the_password_of_any_user(server: Server) -> None:
    with listening(with_keys(server)) as address:
        api = webuiapi.WebUIApi(baseurl=f"{address}{API}", username="anybody", password=ANN)
        assert api.txt2img(prompt="a", width=64, height=64).image.size == (64, 64)
        assert api.get_sd_models()[0]["model_name"] == "toy"
        api.session.close()
    assert server.orders[0].terms.tenant == "ann"


@pytest.mark.parametrize("path", ["samplers", "progress", "options", "cmd-flags", "memory", "loras"])
def test_no_route_is_open(server: Server, path: str) -> None:
    with_keys(server)
    response = server.request("GET", f"{API}/{path}")
    assert refused(response, 401)["detail"] == "Incorrect username or password"
    assert response.headers["www-authenticate"].startswith("Basic")
    wrong = server.request("GET", f"{API}/{path}", auth=("ann", "lw-another"))
    assert refused(wrong, 401)["detail"] == "Incorrect username or password"
    refused(server.request("GET", f"{API}/{path}", auth=("operator", OPERATOR)), 403)
    assert server.request("GET", f"{API}/{path}", auth=("", ANN)).status_code == 200


def test_a_keys_limits_hold_here_too(server: Server) -> None:
    with_keys(server, pictures_per_minute=2, burst=2)
    headers = {"authorization": f"Bearer {ANN}"}
    body: dict[str, Any] = {"prompt": "a", "batch_size": 1, "n_iter": 2}
    assert server.request("POST", f"{API}/txt2img", json=body, headers=headers).status_code == 200
    response = server.request("POST", f"{API}/txt2img", json=body, headers=headers)
    assert refused(response, 429)["detail"].startswith("this key may ask for 2 pictures a minute")
    assert int(response.headers["retry-after"]) > 0


def test_the_document_says_how_a_key_is_given(server: Server) -> None:
    with_keys(server)
    document = server.request("GET", "/openapi.json").json()
    paths = {path: operations for path, operations in document["paths"].items() if path.startswith(API)}
    assert len(paths) > 25
    for operations in paths.values():
        for operation in operations.values():
            assert operation["security"] == [{"key": []}, {"password": []}]
            # and in which shape it is refused
            content = operation["responses"]["401"]["content"]["application/json"]
            assert content["schema"]["title"] == "A1111Error"
    assert "$defs" not in json.dumps(paths), "in the middle of a document nothing would be found there"
    body = paths[f"{API}/img2img"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert "init_images" in body["properties"]
    options = paths[f"{API}/options"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert {"sd_vae", "CLIP_stop_at_last_layers"} < options["properties"].keys()
