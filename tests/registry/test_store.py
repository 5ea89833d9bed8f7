import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.mlflow_server import mlflow_server
from components.reference import Selector
from registry.errors import NoSuchVersionError, RegistryAwayError, RegistryError
from registry.registry import Registry
from registry.settings import RegistrySettings
from registry.store import translated

pytestmark = pytest.mark.slow  # a registry of its own for every test


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


@pytest.fixture
def babbling_port() -> Iterator[int]:
    """An HTTP server that is not MLflow."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(65536)
                    connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi")

        thread = threading.Thread(target=answer)
        thread.start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()


def _settings(home: Path, port: int, login: str = "") -> RegistrySettings:
    return RegistrySettings(home=home, tracking_uri=f"http://{login}127.0.0.1:{port}", timeout_s=1, retries=1)


def test_a_server_that_is_away_is_one_sentence_without_credentials(tmp_path: Path, closed_port: int) -> None:
    with pytest.raises(RegistryError) as refused:
        Registry.connect(_settings(tmp_path, closed_port, "ada:secret@"))
    assert str(refused.value) == f"the registry at http://127.0.0.1:{closed_port} cannot be reached"


@pytest.mark.parametrize("port", ["closed_port", "silent_port", "babbling_port"])
def test_a_server_that_does_not_answer_as_it_should_is_away(
    tmp_path: Path, request: pytest.FixtureRequest, port: str
) -> None:
    with pytest.raises(RegistryAwayError):
        Registry.connect(_settings(tmp_path, request.getfixturevalue(port)))


def test_a_database_that_cannot_be_opened_is_away(registry: Registry, settings: RegistrySettings) -> None:
    """Also one that could be a moment ago, and was damaged since."""
    (settings.home / "mlflow.db").write_bytes(b"no database at all" * 1000)
    for ask in (registry.names, lambda: registry.survey("emoji"), lambda: Registry.connect(settings)):
        with pytest.raises(RegistryAwayError) as away:
            ask()
        assert "\n" not in str(away.value)


def test_a_refusal_is_no_absence(registry: Registry, decoder: Path) -> None:
    """What the registry has understood and refuses will be refused again."""
    name = "emoji.vae_decoder"
    registry.publish(decoder, name)
    for refused in (
        lambda: registry.version(name, 9),
        lambda: registry.aliases("emoji.denoiser"),
        lambda: registry.resolve(Selector.parse(f"{name}@nope")),
        lambda: registry.promote(name, 1, "v3"),
        lambda: registry.set_bundle_tag("", "key", "value"),
    ):
        with pytest.raises(RegistryError) as error:
            refused()
        assert not isinstance(error.value, RegistryAwayError)


@pytest.mark.parametrize(
    "uri", ["gopher://x", pytest.param("mysql://u@127.0.0.1:1/x", id="a driver that is not installed")]
)
def test_a_store_that_can_never_be_used_is_not_away(tmp_path: Path, uri: str) -> None:
    with pytest.raises(RegistryError) as error:
        Registry.connect(RegistrySettings(home=tmp_path, tracking_uri=uri))
    assert type(error.value) is RegistryError


def test_our_own_faults_are_not_hidden(settings: RegistrySettings) -> None:
    with pytest.raises(ZeroDivisionError), translated(settings):
        raise ZeroDivisionError


@pytest.mark.slow
def test_a_server_that_was_stopped_is_away(tmp_path: Path, decoder: Path) -> None:
    with mlflow_server(tmp_path / "server") as server:
        settings = RegistrySettings(home=tmp_path / "home", tracking_uri=server.url, timeout_s=5, retries=0)
        registry = Registry.connect(settings)
        with pytest.raises(NoSuchVersionError):
            registry.version("emoji.vae_decoder", 1)
        registry.publish(decoder, "emoji.vae_decoder")
    for ask in (
        registry.names,
        lambda: registry.survey("emoji"),
        lambda: registry.version("emoji.vae_decoder", 1),
        lambda: registry.set_bundle_tag("emoji", "key", "value"),
        lambda: registry.promote("emoji.vae_decoder", 1),
        lambda: Registry.connect(settings),
    ):
        with pytest.raises(RegistryAwayError) as away:
            ask()
        assert str(away.value) == f"the registry at {server.url} cannot be reached"


def test_a_server_that_hangs_is_given_up_in_the_settings_time(tmp_path: Path, silent_port: int) -> None:
    began = time.monotonic()
    with pytest.raises(RegistryError, match=r"did not answer within 1 s"):
        Registry.connect(_settings(tmp_path, silent_port))
    assert time.monotonic() - began < 2 * 1 + 5  # two attempts, jitter, and importing MLflow


def test_a_server_that_is_not_mlflow_is_said(tmp_path: Path, babbling_port: int) -> None:
    with pytest.raises(RegistryError, match=rf"the registry at http://127.0.0.1:{babbling_port} "):
        Registry.connect(_settings(tmp_path, babbling_port))


def test_what_the_user_set_for_mlflow_stays(tmp_path: Path, silent_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(RegistryError, match=r"did not answer within 2 s"):
        Registry.connect(_settings(tmp_path, silent_port))


def test_a_database_that_is_none_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"no database at all" * 1000)
    with pytest.raises(RegistryError, match=r"the registry in .* cannot be opened: DatabaseError"):
        Registry.connect(RegistrySettings(home=tmp_path))


def test_a_home_that_cannot_be_a_folder_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RegistryError, match="cannot be used"):
        Registry.connect(RegistrySettings(home=tmp_path / "file"))


@pytest.mark.parametrize("uri", ["file:./mlruns", "gopher://x", "postgresql://u:secret@127.0.0.1:1/x"])
def test_a_store_that_mlflow_cannot_use_is_one_sentence(
    tmp_path: Path, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # it would ask a database that is away ten times, for 100 seconds
    monkeypatch.setattr("mlflow.store.db.utils.MAX_RETRY_COUNT", 2)
    with pytest.raises(RegistryError) as refused:
        Registry.connect(RegistrySettings(home=tmp_path, tracking_uri=uri))
    assert "secret" not in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.slow
def test_the_first_start_is_quiet_and_leaves_the_working_directory_alone(tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    root = Path(__file__).parents[2]
    run = subprocess.run(
        [sys.executable, "-m", "registry", "list", "--json"],
        cwd=work,
        env={"PATH": "", "PYTHONPATH": str(root), "LATENTWORKS_HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "[]\n", "")
    assert list(work.iterdir()) == []
    assert (tmp_path / "home" / "mlflow.db").is_file()
