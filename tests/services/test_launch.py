"""Why a start cannot succeed, as one sentence; a cluster is started elsewhere."""

import os
import socket
from collections.abc import Iterator
from importlib import import_module

import pytest
import ray
from ray import serve
from ray._private import auto_init_hook
from ray.exceptions import ActorDiedError
from ray.serve.exceptions import RayServeException
from ray.serve.schema import ServeStatus

from services import launch
from services.errors import StartError


def _has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


# a machine without IPv6 has nothing of it to test
HOSTS = ("127.0.0.1", "::1") if _has_ipv6() else ("127.0.0.1",)


@pytest.fixture(params=HOSTS)
def listening(request: pytest.FixtureRequest) -> Iterator[tuple[str, int]]:
    host: str = request.param
    with socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET) as server:
        yield host, server.getsockname()[1]


def test_a_port_is_free_or_it_is_said_who_has_it(listening: tuple[str, int]) -> None:
    host, port = listening
    shown = f"[{host}]" if ":" in host else host
    with pytest.raises(StartError) as raised:
        launch._require_free(host, port)
    assert str(raised.value) == f"{shown}:{port} cannot be listened on: Address already in use"
    launch._require_free(host, free_port(host))


def free_port(host: str) -> int:
    with socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        port: int = probe.getsockname()[1]
        return port


def test_a_host_that_is_none() -> None:
    with pytest.raises(StartError, match=r"no\.such\.host\.invalid:8000 cannot be listened on: "):
        launch._require_free("no.such.host.invalid", 8000)


@pytest.mark.parametrize(
    "raised",
    [
        ValueError("object_store_memory=1: must be at least 75 MB\nand more"),
        RuntimeError("object_store_memory=1: must be at least 75 MB"),
        ConnectionError("object_store_memory=1: must be at least 75 MB"),
        TimeoutError("object_store_memory=1: must be at least 75 MB"),
        RayServeException("object_store_memory=1: must be at least 75 MB"),
    ],
)
@pytest.mark.parametrize("where", [(ray, "init"), (serve, "start")], ids=["ray.init", "serve.start"])
def test_ray_that_does_not_start(raised: Exception, where: tuple[object, str], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: object) -> None:
        raise raised

    start = quiet_start(monkeypatch)
    monkeypatch.setattr(*where, fail)
    with pytest.raises(StartError, match="Ray cannot start: object_store_memory=1: must be at least 75 MB$"):
        start._run()


@pytest.mark.parametrize("raised", [RuntimeError("failed"), ActorDiedError(), TimeoutError("late")])
def test_a_deployment_that_does_not_start_and_serve_that_does_not_say_why(
    raised: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise raised

    start = quiet_start(monkeypatch)
    monkeypatch.setattr(serve, "run", fail)
    monkeypatch.setattr(serve, "status", lambda: ServeStatus())
    with pytest.raises(StartError, match="the deployments did not start"):
        start._run()
    monkeypatch.setattr(serve, "status", fail)
    with pytest.raises(StartError, match="the deployments did not start"):
        start._run()


def test_a_bug_keeps_its_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise KeyError("a bug")

    start = quiet_start(monkeypatch)
    monkeypatch.setattr(serve, "run", fail)
    with pytest.raises(KeyError):
        start._run()


def quiet_start(monkeypatch: pytest.MonkeyPatch) -> launch._Start:
    monkeypatch.setattr(ray, "init", lambda **_: None)
    monkeypatch.setattr(serve, "start", lambda **_: None)
    monkeypatch.setattr(auto_init_hook, "enable_auto_connect", True)
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    return launch._Start(object, "127.0.0.1", free_port("127.0.0.1"), launch.Telemetry())


def test_traces_are_asked_for_where_serves_processes_look(monkeypatch: pytest.MonkeyPatch) -> None:
    exporter, share = "RAY_SERVE_TRACING_EXPORTER_IMPORT_PATH", "RAY_SERVE_TRACING_SAMPLING_RATIO"
    for name in (exporter, share):
        # set first, so that what is set below is undone
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    launch.Telemetry().set_environment()
    assert not {exporter, share} & os.environ.keys()
    launch.Telemetry(trace_share=0.25).set_environment()
    assert os.environ[share] == "0.25"
    module, _, function = os.environ[exporter].partition(":")
    assert callable(getattr(import_module(module), function))
    monkeypatch.setenv(exporter, "ours:exporter")
    launch.Telemetry(trace_share=1.0).set_environment()
    assert (os.environ[exporter], os.environ[share]) == ("ours:exporter", "1.0")
    # with an exporter a caller's `traceparent` would have its request traced
    launch.Telemetry(trace_share=0.0).set_environment()
    assert exporter not in os.environ
