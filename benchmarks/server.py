"""The graph served in a child process, with a registry of its own that is gone afterwards."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import httpx

from benchmarks.errors import BenchmarkError
from benchmarks.processes import family

HOST = "127.0.0.1"
_ROOT = Path(__file__).resolve().parent.parent
_OTHERS = ("RAY_", "MLFLOW_", "LATENTWORKS_")
_READY_WITHIN_S = 600.0
_LOOK_S = 0.1
# Before it knows any route, Serve's proxy holds a request back for many seconds.
_ANSWER_WITHIN_S = 1.0
# the server gives requests 120 s to finish
_STOP_WITHIN_S = 180.0
_LINES_SHOWN = 5
_NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Server:
    """A server that answers: its launcher's process, where it listens, its home, seconds until it was ready.

    `started_s` is the moment of its start on the clock of `time.perf_counter`.
    """

    pid: int
    url: str
    home: Path
    started_s: float
    ready_s: float

    @property
    def logs(self) -> Path:
        """Where Serve's logs are."""
        return self.home / "ray" / "session_latest" / "logs" / "serve"


@contextmanager
def serving(bundle: Path, arguments: Sequence[str] = (), more: Mapping[str, str] = _NOTHING) -> Iterator[Server]:
    """Start `python ray_app.py` on a bundle folder and an empty registry, and end it after the block.

    It is given `arguments` besides, and `more` of an environment.

    Raises:
        BenchmarkError: it ended, or was not ready in ten minutes; the message quotes the end of what it printed.
    """
    # Ray's sockets have the longest path that the system takes: their folder must be near the root
    with tempfile.TemporaryDirectory(prefix="lw", dir="/tmp", ignore_cleanup_errors=True) as folder:
        home = Path(folder)
        port = free_port()
        output = home / "output.txt"
        started_s = time.perf_counter()
        with output.open("w") as out:
            process = subprocess.Popen(
                [
                    *(sys.executable, "ray_app.py", f"bundle={bundle.name}", f"folder={bundle}"),
                    *(*arguments, "--port", str(port)),
                ],
                cwd=_ROOT,
                env={**environment(os.environ, home), **more},
                stdout=out,
                stderr=out,
            )
        url = f"http://{HOST}:{port}"
        try:
            _wait_until_ready(process, url, output)
            ready_s = time.perf_counter() - started_s
            yield Server(process.pid, url, home, started_s, ready_s)
        finally:
            _stop(process)


def environment(given: Mapping[str, str], home: Path) -> dict[str, str]:
    """The server's environment: `given` without what is set for other registries and clusters, all files in `home`."""
    kept = {name: value for name, value in given.items() if not name.startswith(_OTHERS)}
    return {**kept, "HOME": str(home), "RAY_TMPDIR": str(home), "LATENTWORKS_HOME": str(home / "registry")}


def free_port() -> int:
    """A port that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_until_ready(process: subprocess.Popen[bytes], url: str, output: Path) -> None:
    deadline = time.monotonic() + _READY_WITHIN_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise BenchmarkError(f"the server ended with status {process.returncode}: {end_of(output)}")
        try:
            if httpx.get(f"{url}/readyz", timeout=_ANSWER_WITHIN_S, trust_env=False).status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            pass  # nobody listens yet, or there is no route yet
        time.sleep(_LOOK_S)
    raise BenchmarkError(f"the server was not ready in {_READY_WITHIN_S:g} seconds: {end_of(output)}")


def end_of(output: Path) -> str:
    """The last lines of what a process printed, as one."""
    return " ".join(output.read_text(errors="replace").splitlines()[-_LINES_SHOWN:])


def _stop(process: subprocess.Popen[bytes]) -> None:
    members = family(process.pid)
    process.terminate()
    try:
        process.wait(_STOP_WITHIN_S)
    except subprocess.TimeoutExpired:
        for pid in members:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()
