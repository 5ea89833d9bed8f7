"""VAE decoders swapped under an open-loop load: plainly, with MLflow stopped half-way, with a replica killed."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import httpx

from benchmarks.errors import BenchmarkError
from benchmarks.mlflow_server import MlflowServer, mlflow_server
from benchmarks.open_loop import Drawn, ask, closed_loop, moments, offer
from benchmarks.processes import command_line, family
from benchmarks.promoter import Promotion
from benchmarks.server import Server, environment, serving
from benchmarks.swap_figures import SwapFigures, sum_up
from components.contract import Kind
from components.reference import registered_name

_ROOT = Path(__file__).resolve().parent.parent
SECOND = "vae_decoder-small"
_PICTURES = 16
_CLIENTS = 8
_SEED = 7


class Scene(StrEnum):
    """What happens besides the promotions."""

    PLAIN = "plain"
    MLFLOW = "mlflow"
    KILL = "kill"


@dataclass(frozen=True, slots=True)
class SwapEffort:
    """How long each scene lasts, how many promotions it has, and how much of the capacity is asked for.

    `steps` are those of a picture; the capacity is measured for `capacity_s` seconds.
    """

    seconds: float = 600.0
    promotions: int = 20
    load: float = 0.6
    steps: int = 8
    capacity_s: float = 30.0


@dataclass(frozen=True, slots=True)
class _Stage:
    """One scene's server, its MLflow, and the process that promotes."""

    server: Server
    mlflow: MlflowServer
    bodies: Sequence[dict[str, Any]]
    expected: Mapping[tuple[int, int], str]
    per_second: float
    opened_s: float
    promote: Callable[[int], Promotion]


def measure_swaps(
    bundle: Path, scenes: Sequence[Scene], effort: SwapEffort, say: Callable[[str], None]
) -> tuple[SwapFigures, ...]:
    """Play the scenes one after the other, each on a server and a registry of its own.

    Raises:
        BenchmarkError: the bundle has no second VAE decoder, or a server did not start or draw.
    """
    if not (bundle / SECOND).is_dir():
        raise BenchmarkError(f"{bundle.name}: has no {SECOND}, which the VAE decoder would be swapped with")
    return tuple(_play(bundle, scene, effort, say) for scene in scenes)


def _play(bundle: Path, scene: Scene, effort: SwapEffort, say: Callable[[str], None]) -> SwapFigures:
    say(f"{scene}: starting MLflow and the server")
    with _staged(bundle, effort, say, scene) as stage:
        say(f"{scene}: {effort.seconds:g} s of load, {stage.per_second:.2f} pictures a second")
        answers, promotions = _under_load(stage, scene, effort)
        return sum_up(scene, answers, promotions, stage.expected, asked=effort.promotions, opened_s=stage.opened_s)


@contextmanager
def _staged(bundle: Path, effort: SwapEffort, say: Callable[[str], None], scene: Scene) -> Iterator[_Stage]:
    # Ray's sockets have the longest path that the system takes: their folder must be near the root
    with (
        tempfile.TemporaryDirectory(prefix="lw", dir="/tmp", ignore_cleanup_errors=True) as folder,
        mlflow_server(Path(folder) / "mlflow") as mlflow,
    ):
        more = {"MLFLOW_TRACKING_URI": mlflow.url, "LATENTWORKS_REGISTRY_TIMEOUT_S": "5"}
        name = registered_name(bundle.name, Kind.VAE_DECODER)
        # one of the two replicas is killed while the other goes on
        with serving(bundle, ("vae_decoder.replicas=2",), more) as server, _promoter(server, more, name) as promote:
            say(f"{scene}: what each version makes of {_PICTURES} requests, and the capacity")
            first, second = promote(1), promote(2)
            if first.error or second.error:
                raise BenchmarkError(f"the versions cannot be promoted: {first.error or second.error}")
            bodies = [_body(number, effort.steps) for number in range(_PICTURES)]
            expected = asyncio.run(_expected(server.url, name, bodies))
            capacity = asyncio.run(closed_loop(server.url, bodies, _CLIENTS, effort.capacity_s))
            promote(1)
            opened_s = second.returned_s - second.began_s
            yield _Stage(server, mlflow, bodies, expected, capacity * effort.load, opened_s, promote)


def _body(number: int, steps: int) -> dict[str, Any]:
    return {"prompt": "a red apple, 3d style", "seed": number, "steps": steps}


async def _expected(url: str, name: str, bodies: Sequence[dict[str, Any]]) -> dict[tuple[int, int], str]:
    """The digest of every request's picture wholly by the one and wholly by the other version."""
    found: dict[tuple[int, int], str] = {}
    async with httpx.AsyncClient(base_url=url, timeout=300, trust_env=False) as client:
        for number, body in enumerate(bodies):
            for version in (1, 2):
                chosen = {**body, "components": {Kind.VAE_DECODER.value: f"{name}/{version}"}}
                drawn = await ask(client, number, chosen)
                if drawn.error is not None or drawn.version != version:
                    raise BenchmarkError(f"the server did not draw by {name}/{version}: {drawn.error}")
                found[number, version] = drawn.digest
    return found


def _under_load(stage: _Stage, scene: Scene, effort: SwapEffort) -> tuple[list[Drawn], list[Promotion]]:
    promotions: list[Promotion] = []
    apart = effort.seconds / (effort.promotions + 1)
    started = time.monotonic()
    over = threading.Event()

    def conduct() -> None:
        for number in range(effort.promotions):
            if over.wait(max(0.0, started + apart * (number + 1) - time.monotonic())):
                return
            if number == effort.promotions // 2:
                _disturb(stage, scene)
            # 1 is live when the load begins
            promotions.append(stage.promote(2 if number % 2 == 0 else 1))

    with ThreadPoolExecutor(1, thread_name_prefix="conductor") as thread:
        conducted = thread.submit(conduct)
        try:
            at = moments(stage.per_second, effort.seconds, _SEED)
            answers = asyncio.run(offer(stage.server.url, stage.bodies, at))
        finally:
            over.set()
        # what went wrong there is this one's error too
        conducted.result()
    return answers, promotions


def _disturb(stage: _Stage, scene: Scene) -> None:
    if scene == Scene.MLFLOW:
        stage.mlflow.stop()
    elif scene == Scene.KILL:
        title = f"ray::ServeReplica:default:{Kind.VAE_DECODER}"
        replicas = [pid for pid in family(stage.server.pid) if command_line(pid).startswith(title)]
        if not replicas:
            raise BenchmarkError("there is no decoder's replica to kill")
        os.kill(replicas[0], signal.SIGKILL)


@contextmanager
def _promoter(server: Server, more: Mapping[str, str], name: str) -> Iterator[Callable[[int], Promotion]]:
    env = {**environment(os.environ, server.home), **more}
    command = [sys.executable, "-m", "benchmarks.promoter"]
    with subprocess.Popen(
        command, cwd=_ROOT, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        given, said = process.stdin, process.stdout
        assert given is not None
        assert said is not None

        def promote(version: int) -> Promotion:
            given.write(f"{name} {version}\n")
            given.flush()
            line = said.readline()
            if not line:
                raise BenchmarkError("the process that promotes has ended")
            return Promotion(**json.loads(line))

        try:
            yield promote
        finally:
            given.close()
