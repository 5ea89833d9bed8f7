"""Who is let in where: the application as the deployment puts it together, with keys."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI, Request, WebSocket
from pydantic import SecretStr
from ray import serve
from starlette.routing import Route, WebSocketRoute

from pipeline.request import RequestRules
from services.errors import StartError
from services.ingress import deployment
from services.ingress.access.callers import Access, caller
from services.ingress.app import Face, create_app
from services.ingress.deployment import IngressDeployment
from services.ingress.faces import IngressSettings
from services.keys.keyring import Caller, Keyring
from services.keys.records import KeyRecord, Role, digest_of, line_of
from services.keys.settings import KeyLimits, KeySettings
from services.keys.source import KeySource
from services.metrics.ingress import IngressMetrics
from tests.services.ingress.conftest import error_of

ANN, BEN, OPERATOR = "lw-ann-1f", "lw-ben-2e", "lw-operator-3d"
ROLES: dict[str, tuple[str, Sequence[Role]]] = {
    ANN: ("ann", ["images"]),
    BEN: ("ben", ["images"]),
    OPERATOR: ("operator", ["operate"]),
}
# A1111's clients know HTTP Basic, and errors of their own shape
BASIC_TOO = "/sdapi/"
# the page, what Kubernetes asks for, the document that describes the server, and what is signed instead
NEEDS_NO_KEY = {
    "/",
    "/web/{name}",
    "/healthz",
    "/readyz",
    "/docs",
    "/docs/oauth2-redirect",
    "/redoc",
    "/openapi.json",
    "/v1/images/files/{name}",
    "/v1/registry/webhook",
}
RETRY_AFTER_S = 3
WEBSOCKET = "WEBSOCKET"


def records() -> list[KeyRecord]:
    return [
        KeyRecord(name, digest_of(key.encode()), frozenset(roles), KeyLimits()) for key, (name, roles) in ROLES.items()
    ]


class Anything:
    """Whatever a face is given, and does not use before a request is let in."""

    def __getattr__(self, name: str) -> Any:
        return Anything()

    def __call__(self, *_: Any, **__: Any) -> Any:
        return Anything()


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> FastAPI:
    monkeypatch.setattr(serve, "get_replica_context", lambda: Anything())
    lines = ";".join(line_of(record) for record in records())
    keys = KeySettings(records=SecretStr(lines))
    # the deployment with its own methods, no cluster behind it, and no end that Serve would have to wait for
    parts = {"__getattr__": lambda _self, _name: Anything(), "__del__": lambda _self: None}
    shells: Any = type("Shell", (IngressDeployment,), parts)
    shell = shells.__new__(shells)
    shell._settings = IngressSettings(
        rules=RequestRules(), max_images=4, retry_after_s=RETRY_AFTER_S, webhook_secret=SecretStr("a secret"), keys=keys
    )
    shell._keys = KeySource(keys)
    shell._metrics = IngressMetrics()
    faces: list[Face] = []

    def creating(given: Sequence[Face], *arguments: Any) -> FastAPI:
        faces.extend(given)
        return create_app(given, *arguments)

    monkeypatch.setattr(deployment, "create_app", creating)
    made: FastAPI = shell.__serve_build_asgi_app__()
    made.state.faces = faces
    return made


def routes_of(app: FastAPI) -> list[tuple[str, str]]:
    """Every path and method of the application, those that its document does not describe too."""
    own = [route for route in app.routes if isinstance(route, Route)]
    # FastAPI lists each face as one entry
    assert len(app.routes) == len(own) + len(app.state.faces)
    routes = [*own, *(route for face in app.state.faces for route in face.router().routes)]
    walked = []
    for route in routes:
        assert isinstance(route, Route | WebSocketRoute), "a route of another kind would pass the guard"
        methods = [WEBSOCKET] if isinstance(route, WebSocketRoute) else sorted(route.methods or ())
        walked += [(route.path, method) for method in methods]
    return walked


def ask(app: FastAPI, method: str, path: str, root: str = "", **arguments: Any) -> httpx.Response:
    async def asked() -> httpx.Response:
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False, root_path=root)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.request(method, path, **arguments)

    return asyncio.run(asked())


def opened(app: FastAPI, path: str, **headers: str) -> list[str]:
    """The events that a WebSocket's opening is answered with, until nothing more comes of it alone."""
    told: list[str] = []

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"} if not told else {"type": "websocket.disconnect", "code": 1000}

    async def send(message: Any) -> None:
        told.append(message["type"])

    given = [(name.encode(), value.encode()) for name, value in headers.items()]
    scope = {
        "type": "websocket",
        "path": path,
        "root_path": "",
        "query_string": b"",
        "headers": given,
        "subprotocols": [],
    }
    asyncio.run(app(scope, receive, send))
    return told


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def basic(user: str, key: str) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(f"{user}:{key}".encode()).decode()}


def test_every_route_but_a_few_asks_for_a_key(app: FastAPI) -> None:
    walked = routes_of(app)
    assert len(walked) >= 14
    for path, method in walked:
        if method == WEBSOCKET:
            assert path not in NEEDS_NO_KEY
            assert opened(app, path.replace("{", "").replace("}", "")) == ["websocket.close"], path
            continue
        response = ask(app, method, path.replace("{", "").replace("}", ""))
        if path in NEEDS_NO_KEY:
            # some of these fail, as nothing is behind them here, or for another proof
            assert "invalid_api_key" not in response.text, path
        else:
            assert response.status_code == 401
            challenges = response.headers.get_list("www-authenticate")
            if path.startswith(BASIC_TOO):
                assert response.json()["detail"] == "Incorrect username or password", path
                assert challenges == ['Basic realm="latentworks", charset="UTF-8"', 'Bearer realm="latentworks"']
                continue
            if method != "HEAD":
                error = error_of(response, 401)
                assert (error["type"], error["code"]) == ("authentication_error", "invalid_api_key"), path
            assert challenges == ['Bearer realm="latentworks"']
    assert {path for path, _ in walked} > NEEDS_NO_KEY


def test_what_asks_for_another_proof_asks_for_it(app: FastAPI) -> None:
    webhook = error_of(ask(app, "POST", "/v1/registry/webhook"), 401)
    link = error_of(ask(app, "GET", "/v1/images/files/a.png"), 403)
    assert (webhook["code"], link["code"]) == ("invalid_signature", "invalid_signature")


@pytest.mark.parametrize(
    "headers",
    [
        bearer("lw-another"),
        bearer(ANN.upper()),
        bearer(""),
        {"authorization": ANN},
        {"authorization": "Bearer"},
        {"authorization": f"Token {ANN}"},
        {"x-api-key": ANN},
        basic("ann", ANN),
    ],
    ids=str,
)
def test_a_wrong_key_is_refused_and_not_repeated(
    app: FastAPI, headers: dict[str, str], serve_log: pytest.LogCaptureFixture
) -> None:
    response = ask(app, "GET", "/v1/models", headers=headers)
    error = error_of(response, 401)
    assert (error["code"], error["param"]) == ("invalid_api_key", None)
    assert response.headers["www-authenticate"].startswith('Bearer realm="latentworks"')
    said = (response.text + str(response.headers) + serve_log.text).lower()
    assert not [part for value in headers.values() for part in value.split()[1:] or [ANN] if part.lower() in said]


def test_two_headers_are_none(app: FastAPI) -> None:
    twice = [("authorization", f"Bearer {ANN}"), ("authorization", f"Bearer {BEN}")]
    error_of(ask(app, "GET", "/v1/models", headers=twice), 401)


def test_the_scheme_has_no_case_and_a_path_may_lie_under_a_root(app: FastAPI) -> None:
    headers = {"authorization": f"bearer   {ANN} "}
    assert ask(app, "POST", "/v1/images/generations", headers=headers).status_code == 415
    assert ask(app, "GET", "/toy/healthz", root="/toy").status_code == 200
    error_of(ask(app, "GET", "/toy/v1/models", root="/toy"), 401)


def test_a_key_that_may_not_do_this(app: FastAPI) -> None:
    for path, method, key, role in (
        ("/v1/models", "GET", OPERATOR, "images"),
        ("/v1/images/generations", "POST", OPERATOR, "images"),
        ("/v1/latents/x/compare", "GET", OPERATOR, "images"),
        ("/v1/rollout", "GET", ANN, "operate"),
        ("/metrics", "GET", ANN, "operate"),
    ):
        response = ask(app, method, path, headers=bearer(key))
        error = error_of(response, 403)
        assert (error["type"], error["code"]) == ("permission_error", "permission_denied")
        assert error["message"] == f"this key may not do this: it needs the role {role}"
        assert not [name for name, _ in ROLES.values() if name in response.text]
    assert ask(app, "POST", "/v1/images/generations", headers=bearer(ANN)).status_code == 415


def test_what_is_no_route_needs_a_key_and_no_role(app: FastAPI) -> None:
    error_of(ask(app, "GET", "/v1/nowhere"), 401)
    error_of(ask(app, "DELETE", "/v1/models"), 401)
    for key in (ANN, OPERATOR):
        error_of(ask(app, "GET", "/v1/nowhere", headers=bearer(key)), 404)
    error_of(ask(app, "DELETE", "/v1/models", headers=bearer(ANN)), 405)


def test_nothing_of_the_body_is_read_before(app: FastAPI) -> None:
    read: list[bytes] = []

    async def body() -> AsyncIterator[bytes]:
        read.append(b"{")
        yield b"{"

    error_of(ask(app, "POST", "/v1/images/generations", content=body()), 401)
    assert read == []


def test_refusals_are_counted_by_the_route(app: FastAPI, monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[dict[str, str]] = []
    monkeypatch.setattr("ray.util.metrics.Counter.inc", lambda _self, _value=1.0, tags=None: counted.append(tags or {}))
    ask(app, "GET", "/v1/latents/secret/compare")
    ask(app, "GET", "/v1/secret")
    assert counted == [
        {"route": "/v1/latents/{id}/compare", "method": "GET", "status": "401"},
        {"route": "unknown", "method": "unknown", "status": "401"},
    ]


def test_the_document_says_where_a_key_is_needed(app: FastAPI) -> None:
    document = ask(app, "GET", "/openapi.json").json()
    assert document["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    for path, operations in document["paths"].items():
        for operation in operations.values():
            assert ("security" in operation) == (path not in NEEDS_NO_KEY)
            if path not in NEEDS_NO_KEY:
                also: list[dict[str, list[str]]] = [{"password": []}] if path.startswith(BASIC_TOO) else []
                assert operation["security"] == [{"key": []}, *also]
                assert {"401", "403"} <= operation["responses"].keys()


@dataclass(frozen=True)
class Told:
    """A face that tells who is asking; `basic` as the face has it."""

    prefix: str
    basic: bool

    def router(self) -> APIRouter:
        router = APIRouter(prefix=self.prefix)
        router.add_api_route("/who", self.who, methods=["POST"])
        router.add_api_websocket_route("/follow", self.follow)
        return router

    def access(self, path: str) -> Access:
        assert path in (f"{self.prefix}/who", f"{self.prefix}/follow")
        return Access("images", self.basic)

    async def follow(self, line: WebSocket) -> None:
        await line.accept()
        await line.send_text(caller(line).tenant)
        await line.close()

    async def who(self, request: Request, body: dict[str, str]) -> dict[str, Any]:
        who = caller(request)
        return {"tenant": who.tenant, "roles": sorted(who.roles), **body}


@pytest.fixture
def told() -> FastAPI:
    return create_app(
        [Told("/sdapi/v1", True), Told("/v1", False)], IngressMetrics(), RETRY_AFTER_S, Keyring(records())
    )


def test_the_caller_of_a_request_is_the_name_of_its_key(told: FastAPI) -> None:
    for key, name in ((ANN, "ann"), (BEN, "ben")):
        for path in ("/v1/who", "/sdapi/v1/who"):
            response = ask(told, "POST", path, headers=bearer(key), json={"a": "b"})
            assert response.json() == {"tenant": name, "roles": ["images"], "a": "b"}


def test_a_websocket_opens_with_a_key_alone(told: FastAPI) -> None:
    for headers in ({}, bearer("lw-another"), bearer(OPERATOR), basic("ann", ANN)):
        assert opened(told, "/v1/follow", **headers) == ["websocket.close"]
    whole = ["websocket.accept", "websocket.send", "websocket.close"]
    assert opened(told, "/v1/follow", **bearer(ANN)) == whole
    assert opened(told, "/sdapi/v1/follow", **basic("me", ANN)) == whole
    assert opened(told, "/v1/nowhere") == ["websocket.close"]


def test_without_keys_anybody_may_do_anything() -> None:
    told = create_app([Told("/v1", False)], IngressMetrics(), RETRY_AFTER_S)
    for headers in ({}, bearer("lw-whatever")):
        who = ask(told, "POST", "/v1/who", headers=headers, json={}).json()
        assert who == {"tenant": "", "roles": ["images", "operate"]}
    assert "securitySchemes" not in told.openapi()["components"]


@pytest.mark.parametrize("user", ["", "ann", "anybody at all", "ben", "\N{RED APPLE}"])
def test_basic_with_any_user_where_the_face_takes_it(told: FastAPI, user: str) -> None:
    assert ask(told, "POST", "/sdapi/v1/who", headers=basic(user, ANN), json={}).json()["tenant"] == "ann"
    elsewhere = ask(told, "POST", "/v1/who", headers=basic(user, ANN), json={})
    error_of(elsewhere, 401)
    assert elsewhere.headers.get_list("www-authenticate") == ['Bearer realm="latentworks"']


@pytest.mark.parametrize(
    "header",
    ["Basic", "Basic !", "Basic " + base64.b64encode(ANN.encode()).decode(), basic(ANN, "")["authorization"]],
)
def test_basic_that_holds_no_key(told: FastAPI, header: str) -> None:
    response = ask(told, "POST", "/sdapi/v1/who", headers={"authorization": header}, json={})
    error_of(response, 401)
    first, second = response.headers.get_list("www-authenticate")
    assert first == 'Basic realm="latentworks", charset="UTF-8"'
    assert second.startswith('Bearer realm="latentworks"')


def test_httpx_sends_basic_as_it_is_taken(told: FastAPI) -> None:
    response = ask(told, "POST", "/sdapi/v1/who", auth=("me", BEN), json={})
    assert response.json()["tenant"] == "ben"
    scheme = told.openapi()["paths"]["/sdapi/v1/who"]["post"]["security"]
    assert scheme == [{"key": []}, {"password": []}]


@pytest.mark.parametrize("host", ["0.0.0.0", None])
def test_the_ingress_does_not_start_without_keys_where_serve_listens_to_others(
    host: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deployment, "listening_host", lambda: host)
    settings = IngressSettings(rules=RequestRules(), max_images=4, retry_after_s=RETRY_AFTER_S)
    shell: Any = Anything()
    handle: Any = Anything()
    with pytest.raises(StartError, match="there are no keys, and "):
        asyncio.run(IngressDeployment.__init__(shell, handle, handle, handle, handle, settings))


def test_a_key_taken_out_of_the_file_is_refused_while_the_server_runs(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("\n".join(line_of(record) for record in records()), encoding="utf-8")
    source = KeySource(KeySettings(file=file))
    told = create_app([Told("/v1", False)], IngressMetrics(), RETRY_AFTER_S, source.keyring)

    def statuses() -> list[int]:
        return [ask(told, "POST", "/v1/who", headers=bearer(key), json={}).status_code for key in (ANN, BEN)]

    assert statuses() == [200, 200]
    file.write_text("\n".join(line_of(record) for record in records() if record.name != "ann"), encoding="utf-8")
    for _ in range(2):
        asyncio.run(source.look(lambda *_: None))
    assert statuses() == [401, 200]


def test_a_caller_does_not_tell_its_key() -> None:
    assert not [key for key in ROLES if key in json.dumps(repr([*records(), Caller("ann")]))]
