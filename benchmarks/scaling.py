"""How long a new denoiser replica takes until it serves; `python -m benchmarks.scaling` serves and asks for it.

The graph is deployed as on Kubernetes, by a config, whose number of replicas may then be changed while it serves. That
process is the driver of a Ray of its own.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from benchmarks.errors import BenchmarkError
from benchmarks.server import HOST, environment, free_port

_ROOT = Path(__file__).resolve().parent.parent
_APP, _DEPLOYMENT = "default", "denoiser"
_PATH = "/v1/images/generations"
_LOOK_S = 0.02
_WITHIN_S = 600.0
# what the first start still does behind its back, and a client's connections, are over by then
_SETTLE_S = 10.0
# placing replicas is not what is measured: as many as are asked for have their share
_LOGICAL_CPUS = 16
_LINE = re.compile(
    r"^\w+ (?P<when>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}) \S+ \S+ (?:\S+ )?-- (?P<text>.*)$", re.MULTILINE
)
_OPENED = re.compile(r"opened \S+ on \w+.*? in (?P<seconds>[\d.]+) s")


@dataclass(frozen=True, slots=True, kw_only=True)
class NewReplica:
    """Seconds of each phase between asking Serve for one more replica and that replica's first answer.

    A process that Ray had in waiting counts from the asking. `open_s`, with the warm-up, is None where the replica's
    log does not tell it apart from `start_s`, in which the replica asks for its pins, fetches and opens.
    """

    process_s: float
    imports_s: float
    start_s: float
    open_s: float | None
    running_s: float
    first_answer_s: float

    @property
    def serves_s(self) -> float:
        """From asking to the moment at which it takes requests."""
        return self.process_s + self.imports_s + self.start_s + self.running_s


def measure_new_replicas(bundle: Path, count: int, say: Callable[[str], None]) -> tuple[NewReplica, ...]:
    """Serve a bundle folder, and ask for one more denoiser replica `count` times.

    Raises:
        BenchmarkError: the graph did not start, or a replica did not come.
    """
    say("serving, to ask for new replicas")
    # Ray's sockets have the longest path that the system takes: their folder must be near the root
    with tempfile.TemporaryDirectory(prefix="lw", dir="/tmp", ignore_cleanup_errors=True) as folder:
        home = Path(folder)
        order = {"bundle": str(bundle), "home": str(home), "port": free_port(), "count": count}
        # Ray hands its own environment on to the replicas
        env = {**environment(os.environ, home), "PYTHONPATH": str(_ROOT), "TZ": "UTC"}
        with subprocess.Popen(
            [sys.executable, "-m", "benchmarks.scaling", json.dumps(order)],
            cwd=_ROOT,
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                out, err = process.communicate()
            except BaseException:
                # Ray's processes end with it
                process.terminate()
                raise
        answers = [line for line in out.splitlines() if line.startswith("[")]
        if process.returncode or not answers:
            end = " ".join(err.splitlines()[-3:])
            raise BenchmarkError(f"serving ended with status {process.returncode}: {end}")
        return tuple(NewReplica(**one) for one in json.loads(answers[-1]))


def read_phases(log: str, asked: float, process_start: float, running: float) -> NewReplica:
    """The phases of a replica's start by its log and three moments, in seconds of the clock of `time.time`.

    Raises:
        BenchmarkError: the log lacks a line of the start, or of a first answer.
    """
    lines = [(_seconds(match["when"]), match["text"]) for match in _LINE.finditer(log)]

    def moment(text: str) -> float:
        try:
            return next(when for when, line in lines if text in line)
        except StopIteration:
            raise BenchmarkError(f"a new replica's log has no line with {text!r}") from None

    begun, finished = moment("Started initializing replica"), moment("Finished initializing replica")
    born = max(process_start, asked)
    opened = next((float(match["seconds"]) for _, line in lines if (match := _OPENED.search(line))), None)
    return NewReplica(
        process_s=born - asked,
        imports_s=begun - born,
        start_s=finished - begun,
        open_s=opened,
        running_s=running - finished,
        first_answer_s=moment("CALL ") - running,
    )


def _seconds(when: str) -> float:
    # Serve writes the local time, which is UTC in the environment that we give it
    return datetime.strptime(when, "%Y-%m-%d %H:%M:%S,%f").replace(tzinfo=UTC).timestamp()


class _Cluster:
    """A Ray of its own with the graph on it; Serve offers over HTTP alone what is asked of its controller here."""

    def __init__(self, order: dict[str, Any]) -> None:
        import ray
        from ray import serve
        from ray.serve.context import _get_global_client
        from ray.serve.schema import ServeDeploySchema

        self._ray, self._home = ray, Path(order["home"])
        quiet = {"logging_level": "ERROR", "log_to_driver": False}
        ray.init(address="local", num_cpus=_LOGICAL_CPUS, include_dashboard=False, **quiet)
        serve.start(http_options={"host": HOST, "port": order["port"]})
        self._client = _get_global_client()
        bundle = Path(order["bundle"])
        application = {
            "name": _APP,
            "route_prefix": "/",
            "import_path": "ray_app:build",
            "args": {"bundle": bundle.name, "folder": str(bundle)},
            # only such an application lets its replicas be counted from outside
            "external_scaler_enabled": True,
        }
        self._client.deploy_apps(ServeDeploySchema.model_validate({"applications": [application]}))
        self._status = serve.status
        self._wait_for(self._is_running, "the graph to start")

    def ask_for(self, replicas: int) -> tuple[float, dict[str, Any]]:
        """Ask for so many denoiser replicas; the moment of asking, and the newest replica once all run."""
        from ray.serve._private.common import DeploymentID

        asked = time.time()
        order = self._client._controller.update_deployment_replicas.remote(DeploymentID(_DEPLOYMENT, _APP), replicas)
        self._ray.get(order)
        running: list[dict[str, Any]] = []

        def all_run() -> bool:
            running[:] = [each for each in self._replicas() if each["state"] == "RUNNING"]
            return len(running) == replicas

        self._wait_for(all_run, f"{replicas} replicas")
        return asked, max(running, key=lambda each: float(each["start_time_s"]))

    def log(self, replica: dict[str, Any]) -> str:
        """What a replica has written to its log so far."""
        logs = self._home / "ray" / "session_latest" / "logs"
        return (logs / str(replica["log_file_path"]).lstrip("/")).read_text(errors="replace")

    def wait_for_answer(self, replica: dict[str, Any]) -> None:
        """Wait until a replica has written that it answered a call."""
        self._wait_for(lambda: "CALL " in self.log(replica), "a first answer")

    def end(self) -> None:
        """End Ray."""
        self._ray.shutdown()

    def _replicas(self) -> list[dict[str, Any]]:
        details = self._ray.get(self._client._controller.get_serve_instance_details.remote())
        replicas: list[dict[str, Any]] = details["applications"][_APP]["deployments"][_DEPLOYMENT]["replicas"]
        return replicas

    def _is_running(self) -> bool:
        application = self._status().applications[_APP]
        if application.status == "DEPLOY_FAILED":
            raise BenchmarkError(f"the graph did not start: {application.message.strip().splitlines()[-1]}")
        return bool(application.status == "RUNNING")

    @staticmethod
    def _wait_for(condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + _WITHIN_S
        while not condition():
            if time.monotonic() > deadline:
                raise BenchmarkError(f"waited {_WITHIN_S:g} s for {what}")
            time.sleep(_LOOK_S)


@contextmanager
def _callers(url: str, at_once: int) -> Iterator[None]:
    """Ask for pictures, so many at a time, for the length of the block."""
    done = threading.Event()

    def call() -> None:
        while not done.is_set():
            httpx.post(url, json={"prompt": "a red apple", "steps": 1}, timeout=_WITHIN_S, trust_env=False)

    threads = [threading.Thread(target=call) for _ in range(at_once)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        done.set()
        for thread in threads:
            thread.join()


def _started(pid: int) -> float:
    """When a process was started, on the clock of `time.time`, to a hundredth of a second."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    ticks = int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return time.time() - (time.clock_gettime(time.CLOCK_BOOTTIME) - ticks)


def _serve(order: dict[str, Any]) -> None:
    cluster = _Cluster(order)
    found = []
    for number in range(order["count"]):
        time.sleep(_SETTLE_S)
        asked, replica = cluster.ask_for(number + 2)
        running = time.time()
        # twice as many as there are replicas, so that each gets one
        with _callers(f"http://{HOST}:{order['port']}{_PATH}", 2 * (number + 2)):
            cluster.wait_for_answer(replica)
        found.append(asdict(read_phases(cluster.log(replica), asked, _started(replica["pid"]), running)))
    sys.stdout.write(json.dumps(found) + "\n")
    cluster.end()


if __name__ == "__main__":
    # a choice of this launcher, as of `services.launch`
    os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_worker_niceness="0")
    try:
        _serve(json.loads(sys.argv[1]))
    except BenchmarkError as error:
        sys.exit(str(error))
