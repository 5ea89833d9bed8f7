"""Starting the graph on this machine from one process, and stopping it without losing a request."""

import logging
import os
import re
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

import click
import ray
from ray import serve
from ray._private import auto_init_hook
from ray.exceptions import RayError
from ray.serve import Application
from ray.serve.exceptions import RayServeException
from ray.serve.schema import DeploymentStatus

from services.errors import StartError

_NAME = "default"
_DRAIN_S = 120.0
_LOOK_S = 0.1
_STDERR = 2
_START_LOOK_S = 0.005
# Ray's own exceptions, and Python's that it raises where it cannot start or deploy
_RAY_ERRORS = (RayError, RayServeException, RuntimeError, OSError)
_TRACES_BESIDE_LOGS = "services.timelines.exporting:beside_logs"
_EXPORTER = "RAY_SERVE_TRACING_EXPORTER_IMPORT_PATH"
_FAILED = {DeploymentStatus.DEPLOY_FAILED, DeploymentStatus.UNHEALTHY}
# how Python writes an exception under its trace
_EXCEPTION = re.compile(r"[\w.]+: (?P<sentence>\S.*)")


@dataclass(frozen=True, slots=True)
class Telemetry:
    """How Serve writes logs, and of which share of the requests a trace.

    0 is none, whatever their callers say; None leaves it to the environment.
    """

    json_logs: bool = False
    trace_share: float | None = None

    @property
    def logging(self) -> dict[str, str]:
        """Serve's logging_config, of its own parts and of applications alike."""
        return {"encoding": "JSON" if self.json_logs else "TEXT"}

    def set_environment(self) -> None:
        """Set what Serve's processes read of traces; who names an exporter in the environment has that one."""
        # the proxies take no notice of the tracing_config of serve.start, only of these
        if self.trace_share == 0:
            # with an exporter Serve would trace what a caller asks it to, whatever the share
            os.environ.pop(_EXPORTER, None)
        elif self.trace_share is not None:
            os.environ.setdefault(_EXPORTER, _TRACES_BESIDE_LOGS)
            os.environ["RAY_SERVE_TRACING_SAMPLING_RATIO"] = str(self.trace_share)


def launch(make: Callable[[], Application], host: str, port: int, telemetry: Telemetry) -> None:
    """Start Ray, run the application that `make` builds, and return after SIGTERM or SIGINT and a drain.

    Raises:
        click.ClickException: it cannot start; the message is one sentence.
    """
    signals = _Signals()
    start = _Start(make, host, port, telemetry)
    start.start()
    while not start.ended.is_set():
        # Ray puts handlers of its own in place while it starts, which end the process with a stack on screen
        signals.catch()
        if signals.stop.wait(_START_LOOK_S):
            return _end("Stopped before it was ready.")
    signals.catch()
    if start.error is not None:
        ray.shutdown()
        raise start.error
    click.echo(f"Latentworks is ready at http://{_shown(host)}:{port} (describes itself at /docs); Ctrl-C ends it.")
    signals.stop.wait()
    signals.stop.clear()
    click.echo("Stopping: no new requests, those under way may finish; a second signal does not wait for them.")
    drain = _Drain()
    drain.start()
    while drain.is_alive():
        if signals.stop.wait(_LOOK_S):
            return _end("Stopped at once.")
    return _end("Stopped." if drain.left == 0 else f"Stopped with {drain.left} pictures unfinished.")


def _end(sentence: str) -> None:
    # Where Ray's core got the signal before us, it has set an alarm that would end this process in three seconds.
    signal.alarm(0)
    # The cluster is ours alone, so it may go as a whole; Serve's own shutdown would end with complaints on screen.
    ray.shutdown()
    click.echo(sentence)


class _Signals:
    """Remembers a signal; an exception out of a handler would break whatever Ray is at."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.catch()

    def catch(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._remember)

    def _remember(self, _number: int, _frame: FrameType | None) -> None:
        self.stop.set()


class _Start(threading.Thread):
    """Starts everything and stays: Linux ends Ray's processes with the thread that started them.

    `ended` is set when everything is ready, or `error` says why not.
    """

    def __init__(self, make: Callable[[], Application], host: str, port: int, telemetry: Telemetry) -> None:
        super().__init__(daemon=True)
        self._make = make
        self._telemetry = telemetry
        self._host = host
        self._port = port
        self.ended = threading.Event()
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            self._run()
        except StartError as error:
            self.error = click.ClickException(str(error))
        except Exception as error:  # noqa: BLE001 - raised again in the main thread
            self.error = error
        self.ended.set()
        threading.Event().wait()

    def _run(self) -> None:
        _require_free(self._host, self._port)
        application = self._make()
        click.echo("Starting Ray and the deployments; this takes some twenty seconds.")
        # a choice of this launcher; the user may ask for Ray's reports
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        # by itself Ray runs its workers, our replicas, 15 levels nicer than everything else on the machine
        os.environ.setdefault("RAY_worker_niceness", "0")
        self._telemetry.set_environment()
        # After a stop, what this thread still asks of Ray must fail: by itself Ray would start anew for it. Its own
        # variable for this, RAY_ENABLE_AUTO_CONNECT, is read when it is imported.
        auto_init_hook.enable_auto_connect = False
        try:
            with _without_stderr():
                ray.init(address="local", log_to_driver=False, logging_level=logging.ERROR)
            logging.getLogger("ray.serve").setLevel(logging.CRITICAL)
            serve.start(
                http_options={"host": self._host, "port": self._port},
                logging_config=self._telemetry.logging,
            )
        except (*_RAY_ERRORS, ValueError) as error:
            raise StartError(f"Ray cannot start: {_first_line(error)}") from None
        try:
            serve.run(application, name=_NAME, logging_config=self._telemetry.logging)
        except _RAY_ERRORS:
            raise StartError(_reason()) from None


@contextmanager
def _without_stderr() -> Iterator[None]:
    """Keep off the screen the stack that Ray's core writes of a signal while its handlers, not ours, are in place.

    Its core puts them there in one call that leaves no other thread the interpreter, so they cannot be caught earlier.
    """
    sys.stderr.flush()
    kept, nowhere = os.dup(_STDERR), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, _STDERR)
    try:
        yield
    finally:
        os.dup2(kept, _STDERR)
        os.close(kept)
        os.close(nowhere)


class _Drain(threading.Thread):
    """Lets what is under way finish; `left` counts the pictures that did not."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.left = 0

    def run(self) -> None:
        try:
            ingress = serve.get_app_handle(_NAME)
            self.left = sum(ingress.broadcast("drain", _DRAIN_S).results(timeout_s=_DRAIN_S + 10))
        except RayServeException as error:
            click.echo(f"The ingress could not be asked to finish: {error}", err=True)


def _reason() -> str:
    """The last line of what Serve kept of the first deployment that failed: the exception's own sentence."""
    try:
        application = serve.status().applications.get(_NAME)
    except _RAY_ERRORS:
        application = None
    deployments = {} if application is None else application.deployments
    for name, deployment in deployments.items():
        lines = [line.strip() for line in deployment.message.splitlines() if line.strip()]
        if deployment.status in _FAILED and lines:
            match = _EXCEPTION.fullmatch(lines[-1])
            return f"{name}: {lines[-1] if match is None else match['sentence']}"
    return "the deployments did not start; Ray's logs say why"


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def _require_free(host: str, port: int) -> None:
    try:
        # Serve listens on a name's IPv4 address, and on IPv6 only where the address itself is given
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise StartError(f"{_shown(host)}:{port} cannot be listened on: {error.strerror}") from None


def _shown(host: str) -> str:
    # as in a URL, where a colon would end the host
    return f"[{host}]" if ":" in host else host
