"""What a server says of its rollout, over HTTP: read as anybody may have written it."""

import http.client
import json
import urllib.error
import urllib.request
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel, ValidationError

from registry.errors import RegistryError

SERVER_VARIABLE = "LATENTWORKS_SERVER"
KEY_VARIABLE = "LATENTWORKS_SERVER_KEY"
DEFAULT_SERVER = "http://127.0.0.1:8000"
PATH = "/v1/rollout"
_ANSWER_S = 10.0


class Pin(BaseModel):
    """An exact version; 0 for what is no component."""

    name: str
    version: int

    def __str__(self) -> str:
        return f"{self.name}/{self.version}" if self.version else self.name


class HeldVersion(Pin):
    """A version in a replica; `seconds` is what it took to open it."""

    state: str
    reason: str | None
    bytes: int
    seconds: float
    users: int


class Replica(BaseModel):
    """A replica of a stage."""

    replica: str
    versions: tuple[HeldVersion, ...]


class RefusedVersion(Pin):
    """A version that may not go live."""

    reason: str


class ServerStatus(BaseModel):
    """What we show of the answer, which may hold more."""

    bundle: str
    state: str
    reason: str | None
    registry_away_s: float | None
    live: tuple[Pin, ...]
    preparing: tuple[Pin, ...] | None
    fallback: Pin | None
    canary: dict[str, Any] | None
    shadow: dict[str, Any] | None
    refused: tuple[RefusedVersion, ...]
    replicas: dict[str, tuple[Replica, ...]]


def ask_server(server: str, key: str | None = None) -> tuple[ServerStatus, Any]:
    """A server's status, and the whole answer as it came; one with keys wants a `key` with the role `operate`.

    Raises:
        RegistryError: it is no address of the web, nobody answers there, or somebody who is no such server.
    """
    if not server.startswith(("http://", "https://")):
        # what stands before an @ may be a password
        raise RegistryError(f"--server {server.rpartition('@')[2]}: must begin with http:// or https://")
    try:
        request = urllib.request.Request(f"{server.rstrip('/')}{PATH}")
        if key is not None:
            # never to whomever the answer may point to
            request.add_unredirected_header("authorization", f"Bearer {key}")
        with urllib.request.urlopen(request, timeout=_ANSWER_S) as answer:
            found = json.load(answer)
        return ServerStatus.model_validate(found), found
    except urllib.error.HTTPError as error:
        asks = error.code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
        key_wanted = f"wants a key with the role operate in {KEY_VARIABLE}"
        reason = key_wanted if asks else f"answers {PATH} with status {error.code}"
    except (ValidationError, UnicodeDecodeError, json.JSONDecodeError, RecursionError):
        reason = f"answers {PATH} with something else"
    except (OSError, http.client.HTTPException, ValueError):
        reason = "does not answer"
    scheme, _, rest = server.partition("://")
    where = f"{scheme}://{rest.rpartition('@')[2].split('/')[0]}"
    raise RegistryError(
        f"the server at {where} {reason}; name it with --server or {SERVER_VARIABLE}, or give a bundle's name"
    )
