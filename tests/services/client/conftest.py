"""The ingress on a graph that draws at once, behind a real socket, and both clients asking it."""

import asyncio
import io
import os
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from services.client.awaited import AsyncClient
from services.client.blocking import Client
from services.client.commands.main import main
from services.client.errors import ClientError
from services.ingress.app import create_app
from services.ingress.latents.face import LatentsFace
from services.ingress.stories.inspect import InspectFace
from services.messages import LiveModel
from tests.services.ingress.conftest import RETRY_AFTER_S, Server, listening
from tests.services.ingress.conftest import further_faces as further_faces
from tests.services.ingress.conftest import server as server
from tests.services.ingress.latents.test_face import Server as Latents

ROOT = Path(__file__).parents[3]
PIN = {"name": "toy.denoiser", "version": 1, "sha256": f"{1:064x}"}
STATUS: dict[str, Any] = {
    "bundle": "toy",
    "state": "live",
    "reason": None,
    "registry_away_s": None,
    "live": [PIN],
    "preparing": None,
    "fallback": None,
    "canary": None,
    "shadow": None,
    "refused": [],
    "replicas": {},
}


@pytest.fixture(autouse=True)
def no_server_of_the_developers(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LATENTWORKS_SERVER", "LATENTWORKS_SERVER_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def latents(live: LiveModel) -> Latents:
    """What is kept, for whoever is `me`."""
    return Latents(live)


@pytest.fixture
def url(server: Server, latents: Latents, live: LiveModel) -> Iterator[str]:
    for kind, pin in live.pins.items():
        server.controller.versions[str(pin)] = (pin, live.contracts[kind])
    face = LatentsFace(latents, latents.read, latents.decode, latents.compare, server.admission, server.metrics)
    server.faces += [InspectFace(server.uploads), face]
    server.app = create_app(server.faces, server.metrics, RETRY_AFTER_S)
    server.controller.status = STATUS
    with listening(server) as address:
        yield address


@dataclass
class Caller:
    """One of the two clients, asked in the same words; `slept` is what it waited, without doing so."""

    awaited: bool
    slept: list[float] = field(default_factory=list)

    def ask(self, url: str, method: str, *arguments: Any, **options: Any) -> Any:
        made = {name: options.pop(name) for name in ("key", "retries", "timeout_s") if name in options}
        if not self.awaited:
            with Client(url, sleep=self.slept.append, **made) as client:
                return getattr(client, method)(*arguments, **options)

        async def asked() -> Any:
            async with AsyncClient(url, sleep=self._sleep, **made) as client:
                return await getattr(client, method)(*arguments, **options)

        return asyncio.run(asked())

    def stream(self, url: str, method: str, *arguments: Any, **options: Any) -> list[Any]:
        if not self.awaited:
            with Client(url, sleep=self.slept.append) as client:
                return list(getattr(client, method)(*arguments, **options))

        async def asked() -> list[Any]:
            async with AsyncClient(url, sleep=self._sleep) as client:
                return [one async for one in getattr(client, method)(*arguments, **options)]

        return asyncio.run(asked())

    def refused(self, url: str, method: str, *arguments: Any, **options: Any) -> Any:
        with pytest.raises(ClientError) as caught:
            self.ask(url, method, *arguments, **options)
        return caught.value

    async def _sleep(self, wait_s: float) -> None:
        self.slept.append(wait_s)


@pytest.fixture(params=[False, True], ids=["waiting", "awaited"])
def caller(request: pytest.FixtureRequest) -> Caller:
    return Caller(request.param)


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "services.client", *arguments]


def surroundings(**more: str) -> dict[str, str]:
    """A child's environment, in which this tree is found from any folder, and nobody's own server is."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LATENTWORKS_")}
    return {**kept, "PYTHONPATH": str(ROOT), **more}


@dataclass(frozen=True)
class Done:
    """How the command line ended, and what it wrote."""

    returncode: int
    stdout: str
    stderr: str


def run(*arguments: str, cwd: Path | None = None, **more: str) -> Done:
    """The command line in this process."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["client", *arguments])
        for name, value in more.items():
            patch.setenv(name, value)
        if cwd is not None:
            patch.chdir(cwd)
        try:
            main()
            code = 0
        except SystemExit as end:
            code = 0 if end.code is None else int(end.code)
    return Done(code, out.getvalue(), err.getvalue())
