"""One component opened in a process of its own, as a replica opens it: `python -m benchmarks.opening`."""

import hashlib
import json
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from benchmarks.errors import BenchmarkError
from benchmarks.processes import own_private
from components.folder import ComponentFolder
from runtime.compiled import CompiledFolder
from runtime.feeds import Feeds
from runtime.session import Session
from runtime.settings import SessionSettings

# 256x256 with guidance, as facts of this size are given
_ROWS, _SIDE = 2, 32


@dataclass(frozen=True, slots=True)
class Opening:
    """Seconds to open a session and to warm it up, and the process's private memory in bytes before and after each.

    `open_cpu_s` are the processor's seconds of the opening, in all threads: other load of the machine is not in them.
    """

    open_s: float
    open_cpu_s: float
    warm_up_s: float
    private_before: int
    private_opened: int
    private_warm: int


@dataclass(frozen=True, slots=True)
class Run:
    """Seconds of one run, and the sha256 of what it gave."""

    seconds: float
    outputs: str


class OpenedProcess:
    """A process with one session open; leaving the block ends it."""

    def __init__(self, component: Path, copy: Path | None, threads: int | None) -> None:
        """Open the component, or its compiled `copy`.

        Raises:
            BenchmarkError: it could not be opened.
        """
        order = {"component": str(component), "copy": None if copy is None else str(copy), "threads": threads}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.opening", json.dumps(order)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        with ExitStack() as stack:
            stack.callback(self._end)
            self.opening = Opening(**self._answer())
            stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def run(self) -> Run:
        """Run it once, on the same noise in every process.

        Raises:
            BenchmarkError: it could not run.
        """
        assert self._process.stdin is not None, "a pipe"
        self._process.stdin.write("run\n")
        self._process.stdin.flush()
        return Run(**self._answer())

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None, "a pipe"
        line = self._process.stdout.readline()
        if not line:
            raise BenchmarkError("a process that was to open a component has ended; its own words are above")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _end(self) -> None:
        # the end of its stdin is its end
        self._process.communicate()


class _Timed(Session):
    """A session that takes down when and with how much memory its warm-up begins and ends."""

    begun: float
    begun_cpu: float
    private_opened: int
    ended: float

    def warm_up(self) -> None:
        self.begun, self.begun_cpu = time.perf_counter(), time.process_time()
        self.private_opened = own_private()
        super().warm_up()
        self.ended = time.perf_counter()


def _feeds(session: Session) -> Feeds:
    rng = np.random.default_rng(0)
    sizes = {"batch": _ROWS, "height": _SIDE, "width": _SIDE}
    sizes["tokens"] = max(session.contract.token_limits, default=1)
    return {
        spec.name: rng.standard_normal([dim if isinstance(dim, int) else sizes[dim] for dim in spec.shape], np.float32)
        for spec in session.contract.inputs
    }


def _serve(order: dict[str, Any]) -> None:
    folder = ComponentFolder.open(Path(order["component"]))
    if order["copy"] is not None:
        folder = CompiledFolder(folder.path, folder.manifest, Path(order["copy"]))
    before = own_private()
    started, started_cpu = time.perf_counter(), time.process_time()
    session = _Timed.open(folder, SessionSettings(threads=order["threads"], provider="cpu"))
    _say(
        Opening(
            open_s=session.begun - started,
            open_cpu_s=session.begun_cpu - started_cpu,
            warm_up_s=session.ended - session.begun,
            private_before=before,
            private_opened=session.private_opened,
            private_warm=own_private(),
        )
    )
    feeds = _feeds(session)
    for _ in sys.stdin:
        started = time.perf_counter()
        outputs = session.run(feeds)
        seconds = time.perf_counter() - started
        digest = hashlib.sha256(b"".join(outputs[name].tobytes() for name in sorted(outputs)))
        _say(Run(seconds, digest.hexdigest()))


def _say(what: Opening | Run) -> None:
    sys.stdout.write(json.dumps(asdict(what)) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    _serve(json.loads(sys.argv[1]))
