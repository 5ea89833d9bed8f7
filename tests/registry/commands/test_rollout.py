import json
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from benchmarks.mlflow_server import mlflow_server
from components.contract import PARTS
from registry.bundle import publish_bundle
from registry.commands import rollout as rollout_commands
from registry.errors import RegistryAwayError
from registry.registry import Registry
from registry.rollout import steps
from registry.rollout.state import PLAN_TAG, ROLLOUT_TAG, Rollout, written
from registry.rollout.steps import Waits
from registry.settings import RegistrySettings
from tests.registry.command_line import Run, answer, runner
from tests.registry.following import Follower

pytestmark = pytest.mark.slow  # a registry of its own for every test

DECODER, DENOISER = "emoji.vae_decoder", "emoji.denoiser"
AT_ONCE = ("--wait", "0")


@pytest.fixture
def run(emoji_settings: RegistrySettings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """The command line, in a registry with a bundle and a gate that all pass."""
    monkeypatch.setattr(steps, "refusals", lambda *_: [])

    return runner(emoji_settings.home, monkeypatch, capsys)


def versions(found: Any) -> list[int]:
    return [ref["version"] for ref in found]


def test_several_are_promoted_together(run: Run, emoji: Registry) -> None:
    found = answer(run, "promote", DENOISER, 2, DECODER, 2, *AT_ONCE)
    assert (found["served"], found["state"], versions(found["components"])) == (False, "live", [1, 2, 2, 1])
    assert (emoji.aliases(DENOISER)["production"], emoji.aliases(DECODER)["production"]) == (2, 2)
    status, out, err = run("promote", DECODER, 1, *AT_ONCE)
    assert (status, err) == (0, "no server follows this registry just now; the next start serves these\n")
    assert [line.split()[:2] for line in out.splitlines() if line.startswith("emoji.vae_decoder")] == [[DECODER, "1"]]


def test_a_server_follows(run: Run, emoji: Registry, emoji_settings: RegistrySettings) -> None:
    with Follower(emoji_settings, "emoji"):
        assert answer(run, "promote", DECODER, 2, "--wait", 600)["served"]
        status, _, err = run("rollback", "emoji", "--wait", 600)
    assert (status, err) == (0, "")
    assert emoji.aliases(DECODER)["production"] == 1


def test_a_server_that_refuses_is_one_sentence(run: Run, emoji_settings: RegistrySettings) -> None:
    with Follower(emoji_settings, "emoji", "the decoder\x1b[2J is flat"):
        status, out, err = run("promote", DECODER, 2, "--wait", 600)
    assert (status, out) == (1, "")
    assert err == "registry: the rollout was stopped, what was live is served on: the decoder?[2J is flat\n"


def test_another_alias_only_points(run: Run, emoji: Registry) -> None:
    (ref,) = answer(run, "promote", DECODER, 2, "--alias", "candidate")
    assert ref == emoji.version(DECODER, 2).ref.model_dump()
    assert emoji.aliases(DECODER) == {"production": 1, "candidate": 2}
    assert "emoji.denoiser" in run("promote", DENOISER, 2, "--alias", "candidate")[1]


def test_a_canary_and_a_shadow(run: Run) -> None:
    limits = ("--sticky", "--least", 50, "--error-rate", 0.1, "--non-finite-rate", 0)
    found = answer(run, "canary", DENOISER, 2, "5%", *limits, *AT_ONCE)
    assert found["canary"].pop("ref")["version"] == 2
    assert found["canary"] == {"percent": 5, "sticky": True, "least": 50, "error_rate": 0.1, "non_finite_rate": 0}
    assert answer(run, "shadow", DECODER, 2, "12.5", *AT_ONCE)["shadow"]["percent"] == 12.5
    out = run("canary", DENOISER, 2, "7.5%", *AT_ONCE)[1]
    assert "canary: emoji.denoiser/2, 7.5 % of new requests" in out
    assert "shadow: emoji.vae_decoder/2, 12.5 % of new requests" in out
    assert answer(run, "canary", DENOISER, "--off", *AT_ONCE)["canary"] is None
    assert answer(run, "shadow", DECODER, "--off", *AT_ONCE)["shadow"] is None


def test_a_rollback(run: Run) -> None:
    answer(run, "promote", DECODER, 2, *AT_ONCE)
    found = answer(run, "rollback", "emoji", *AT_ONCE)
    assert (versions(found["components"]), versions(found["previous"])) == ([1, 1, 1, 1], [1, 1, 2, 1])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("promote", DECODER), "1 arguments: give each name with its version"),
        (("promote", DECODER, "two"), f"{DECODER} two: a version is a whole number"),
        (("promote", DECODER, "²"), f"{DECODER} ²: a version is a whole number"),
        (("promote", DECODER, "9"), f"{DECODER}/9 is not in the registry"),
        (("promote", DECODER, "9" * 5000), f"{DECODER} {'9' * 20}: a version is a whole number from 1 to 999999999"),
        (("promote", DECODER, "00000000012"), f"{DECODER} 00000000012: a version is a whole number from 1 to"),
        (("promote", DECODER, "0"), f"{DECODER} 0: a version is a whole number from 1 to"),
        (("promote", DECODER, 1, DECODER, 2), f"{DECODER}: is there more than once"),
        (("promote", "emoji.unet", 1), "'emoji.unet': must be <bundle>.<kind>"),
        (("promote", DECODER, 3, *AT_ONCE), f"{DECODER}/3 does not fit emoji.vae_encoder/1: latent space channels"),
        (("promote", DECODER, 2, "--alias", "v3"), "reserved"),
        (("promote", DECODER, 2, "--alias", "a b"), "must be NAME@ALIAS"),
        (("canary", DECODER), "give a version and a percentage, or --off"),
        (("canary", DECODER, 2), "give a version and a percentage"),
        (("canary", DECODER, 2, "5%", "--off"), "give a version and a percentage, or --off"),
        (("canary", DECODER, "--off"), f"{DECODER}: is no canary; there is none"),
        (("canary", "emoji", "--off"), "'emoji': must be <bundle>.<kind>"),
        (("canary", DECODER, 2, "0%"), "percent='0%': must be a number over 0 and at most 100, such as 5%"),
        (("canary", DECODER, 2, "100.1"), "percent='100.1': must be a number over 0 and at most 100"),
        (("canary", DECODER, 2, "nan"), "percent='nan': must be a number over 0 and at most 100"),
        (("canary", DECODER, 2, "five"), "percent='five': must be a number over 0 and at most 100"),
        (("canary", DECODER, 1, "5%"), f"{DECODER}/1: is live, and cannot be a canary as well"),
        (("canary", "emoji.vae_encoder", 2, "5%"), "only a bundle's text_encoder, denoiser, vae_decoder can be"),
        (("shadow", DENOISER, 2, "5%"), f"{DENOISER}: only a vae_decoder can be a shadow"),
        (("shadow", DECODER, "--off"), f"{DECODER}: is no shadow; there is none"),
        (("rollback", "emoji"), "bundle emoji: nothing was live before what is live now"),
        (("rollback", "sd15"), "bundle sd15: nothing of it is in the registry"),
        (("rollback", "x' OR name LIKE '%"), "must be <bundle>.<kind>"),
        (("status", "sd15"), "bundle sd15: nothing of it is in the registry"),
        (("status", "--server", "ftp://here"), "--server ftp://here: must begin with http:// or https://"),
        (("status", "--server", "http://[here"), "does not answer; name it with --server or LATENTWORKS_SERVER"),
    ],
)
def test_what_goes_wrong_is_one_sentence(run: Run, arguments: tuple[object, ...], words: str) -> None:
    status, out, err = run(*arguments)
    assert (status, out) == (1, "")
    assert err.startswith("registry: ")
    assert words in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "option",
    [("--error-rate", "nan"), ("--non-finite-rate", 1.1), ("--least", 0), ("--least", 10**7), ("--wait", -1)],
)
def test_an_option_outside_its_limits_is_named(run: Run, option: tuple[object, ...]) -> None:
    status, out, err = run("canary", DECODER, 2, "5%", *option)
    assert (status, out) == (2, "")
    assert str(option[0]) in err


@pytest.mark.parametrize("tag", [PLAN_TAG, ROLLOUT_TAG])
def test_a_tag_does_not_steer_the_terminal(run: Run, emoji: Registry, tag: str) -> None:
    emoji.set_bundle_tag("emoji", tag, '{"\x1b[2J": 1}'.replace("\x1b", "\\u001b"))
    for arguments in (("status", "emoji"), ("promote", DECODER, 2), ("rollback", "emoji")):
        status, out, err = run(*arguments)
        assert (status, out) == (1, "")
        assert err[:-1].isprintable()
        assert f"deleting its tag {tag} mends that" in err


def test_the_status_of_a_bundle_that_no_server_has_served(run: Run) -> None:
    found = answer(run, "status", "emoji")
    assert (found["bundle"], found["state"], versions(found["live"])) == ("emoji", None, [1, 1, 1, 1])
    assert (found["pending"], found["canary"], found["shadow"], found["previous"]) == (None, None, None, [])
    assert "no server has served it yet" in run("status", "emoji")[1]


def test_the_status_of_a_bundle_shows_what_is_live_and_what_is_wanted(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(run, "promote", DECODER, 2, *AT_ONCE)
    answer(run, "canary", DENOISER, 2, 5, *AT_ONCE)
    with monkeypatch.context() as patch:
        patch.setattr(steps, "_follow", lambda *_: sys.exit(3))
        run("promote", DECODER, 1)
    found = answer(run, "status", "emoji")
    assert (versions(found["live"]), versions(found["pending"]["components"])) == ([1, 1, 2, 1], [1, 1, 1, 1])
    assert (found["canary"]["percent"], versions(found["previous"])) == (5, [1, 1, 1, 1])
    out = run("status", "emoji")[1]
    rows = {line.split()[0]: line for line in out.splitlines() if line and not line.startswith(" ")}
    assert {"bundle", "state", "live", "canary", "before", "wanted"} <= rows.keys()
    assert "emoji.denoiser/2, 5 % of new requests" in rows["canary"]


def test_the_status_shows_why_the_last_plan_was_stopped(run: Run, emoji: Registry) -> None:
    components = tuple(emoji.version(f"emoji.{kind}", 1).ref for kind in PARTS)
    stopped = Rollout(state="stopped", reason="\x1b[2J it is flat", components=components)
    emoji.set_bundle_tag("emoji", ROLLOUT_TAG, written(stopped))
    assert answer(run, "status", "emoji")["reason"] == stopped.reason
    out = run("status", "emoji")[1]
    assert "?[2J it is flat" in out
    assert "\x1b" not in out


def _pin(name: str, version: int) -> dict[str, Any]:
    return {"name": name, "version": version, "sha256": f"{version:064x}"}


def _busy() -> dict[str, Any]:
    """A server's answer, as `services.rollout.status` makes it, with something of everything."""
    live = [_pin(f"emoji.{kind}", 1) for kind in PARTS]
    counts = {"requests": 2, "errors": 1, "non_finite": 0}
    figures = {"pictures": 1, "psnr_db.mean": 31.5}
    held = {"reason": None, "bytes": 3_400_000, "seconds": 1.25, "users": 2}
    failed = {"reason": "no memory\x1b[2J", "bytes": 0, "seconds": 0.0, "users": 0}
    return {
        "bundle": "emoji",
        "state": "preparing",
        "reason": None,
        "registry_away_s": 12.5,
        "live": live,
        "preparing": [*live[:3], _pin(DECODER, 2)],
        "fallback": _pin(DECODER, 2),
        "canary": {**_pin(DENOISER, 2), "percent": 5.0, "sticky": False, "counts": counts, "live_counts": counts},
        "shadow": {**_pin(DECODER, 2), "percent": 10.0, "figures": figures, "mlflow_run": None},
        "refused": [
            {"name": DECODER, "version": 7, "reason": "it is flat"},
            {"name": PLAN_TAG, "version": 0, "reason": "it is damaged"},
        ],
        "replicas": {
            "denoiser": [],
            "vae_decoder": [
                {
                    "replica": "vae_decoder#1",
                    "node": "node",
                    "versions": [
                        {**_pin(DECODER, 1), "state": "loaded", **held},
                        {**_pin(DECODER, 2), "state": "failed", **failed},
                    ],
                }
            ],
        },
    }


def _quiet() -> dict[str, Any]:
    return _busy() | dict.fromkeys(("preparing", "fallback", "canary", "shadow", "registry_away_s")) | {"refused": []}


@pytest.fixture
def serve() -> Iterator[Callable[[bytes, int], str]]:
    """A web server that answers one path with what it is given; gives its address."""
    servers: list[tuple[HTTPServer, threading.Thread]] = []

    def start(body: bytes, code: int = 200) -> str:
        class Answer(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(code if self.path == "/v1/rollout" else 404)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        server = HTTPServer(("127.0.0.1", 0), Answer)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        servers.append((server, thread))
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server, thread in servers:
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_servers_status_is_shown(run: Run, serve: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    busy = _busy()
    server = serve(json.dumps(busy).encode())
    assert answer(run, "status", "--server", server) == busy
    monkeypatch.setenv("LATENTWORKS_SERVER", f"{server}/")
    status, out, err = run("status")
    assert (status, err) == (0, "")
    assert "\x1b" not in out
    for words in (
        "has not answered for 12 s",
        "emoji.text_encoder/1, emoji.denoiser/1, emoji.vae_decoder/1, emoji.vae_encoder/1",
        'emoji.denoiser/2 {"percent": 5.0, "sticky": false, "counts": {"requests": 2, "errors": 1',
        '"psnr_db.mean": 31.5',
        "emoji.vae_decoder/7: it is flat",
        "latentworks.plan: it is damaged",
    ):
        assert words in out
    assert [line.split()[1:] for line in out.splitlines() if "#1" in line] == [
        ["vae_decoder#1", "emoji.vae_decoder/1", "loaded", "3.4", "1.25", "s", "2"],
        ["vae_decoder#1", "emoji.vae_decoder/2", "failed", "0.0", "0.00", "s", "0", "no", "memory?[2J"],
    ]


def test_a_quiet_servers_status_is_short(run: Run, serve: Callable[..., str]) -> None:
    out = run("status", "--server", serve(json.dumps(_quiet()).encode()))[1]
    assert [line.split()[0] for line in out.split("\n\n")[0].splitlines() if line[0] != " "] == [
        "bundle",
        "state",
        "registry",
        "live",
        "fallback",
    ]


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        (b"{}", 503, "answers /v1/rollout with status 503; name it with --server"),
        (b"{}", 200, "answers /v1/rollout with something else"),
        (b"hi", 200, "answers /v1/rollout with something else"),
        (b"\xff\xfe", 200, "answers /v1/rollout with something else"),
        (b"[" * 100_000, 200, "answers /v1/rollout with something else"),
        (json.dumps(_quiet() | {"live": None}).encode(), 200, "answers /v1/rollout with something else"),
    ],
)
def test_who_is_no_such_server_is_one_sentence(
    run: Run, serve: Callable[..., str], body: bytes, code: int, words: str
) -> None:
    status, out, err = run("status", "--server", serve(body, code))
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert words in err


def test_a_server_that_does_not_answer_is_one_sentence_without_credentials(run: Run) -> None:
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as closed:
        port = closed.server_port
    assert run("status", "--server", f"http://ada:secret@127.0.0.1:{port}/below") == (
        1,
        "",
        f"registry: the server at http://127.0.0.1:{port} does not answer; "
        "name it with --server or LATENTWORKS_SERVER, or give a bundle's name\n",
    )


def test_a_server_with_keys_is_asked_with_the_one_of_the_environment(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    class Guarded(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = self.headers["authorization"] == "Bearer lw-secret"
            body = json.dumps(_quiet()).encode() if known else b"{}"
            self.send_response(200 if known else 401)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Guarded) as guarded:
        thread = threading.Thread(target=guarded.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        url = f"http://127.0.0.1:{guarded.server_port}"
        try:
            monkeypatch.setenv("LATENTWORKS_SERVER_KEY", "lw-secret")
            assert answer(run, "status", "--server", url) == _quiet()
            for key in ("lw-other", "lw-ot\nher"):
                monkeypatch.setenv("LATENTWORKS_SERVER_KEY", key)
                status, out, err = run("status", "--server", url)
                assert (status, out, key in err) == (1, "", False)
            monkeypatch.delenv("LATENTWORKS_SERVER_KEY")
            err = run("status", "--server", url)[2]
            assert "wants a key with the role operate in LATENTWORKS_SERVER_KEY" in err
        finally:
            guarded.shutdown()
            thread.join()


@pytest.mark.parametrize(
    "server", ["ada:secret@127.0.0.1", "ftp://ada:secret@127.0.0.1", "http://ada:se/secret@[127.0.0.1"]
)
def test_credentials_are_never_shown(run: Run, server: str) -> None:
    status, out, err = run("status", "--server", server)
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert "127.0.0.1" in err
    assert "ada" not in err
    assert "se" + "cret" not in err


@pytest.mark.parametrize("command", [("promote", DECODER, 2), ("canary", DECODER, 2, "5%"), ("shadow", DECODER, 2, 5)])
def test_a_server_that_is_known_is_gone_past_only_offline(
    run: Run, emoji: Registry, command: tuple[object, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollout_commands, "Waits", lambda wait, offline: Waits(wait, known_s=0.1, offline=offline))
    components = tuple(emoji.version(f"emoji.{kind}", 1).ref for kind in PARTS)
    emoji.set_bundle_tag("emoji", ROLLOUT_TAG, written(Rollout(state="live", components=components, server="0" * 32)))
    status, out, err = run(*command, *AT_ONCE)
    assert (status, out) == (1, "")
    assert "registry: bundle emoji: its server has not taken this up within 0.1 s; nothing is changed yet" in err
    status, _, err = run("rollback", "emoji", *AT_ONCE)
    assert (status, "--offline changes it" in err) == (1, True)
    assert not answer(run, *command, *AT_ONCE, "--offline")["served"]


@pytest.mark.slow
def test_a_promotion_over_http_and_the_end_of_the_registry_half_way(
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    write_bundle: Callable[[Path], Path],
    write_component: Callable[..., Path],
) -> None:
    with mlflow_server(tmp_path / "server") as server:
        settings = RegistrySettings(home=tmp_path / "elsewhere", tracking_uri=server.url, timeout_s=5, retries=0)
        registry = Registry.connect(settings)
        publish_bundle(registry, write_bundle(tmp_path / "emoji"), "emoji")
        registry.publish(write_component(tmp_path / "newer", content=b"newer"), DECODER)
        for name, value in (("MLFLOW_TRACKING_URI", server.url), ("LATENTWORKS_REGISTRY_TIMEOUT_S", "5")):
            monkeypatch.setenv(name, value)

        with Follower(settings, "emoji"):
            found = answer(run, "promote", DECODER, 2, "--wait", 600)
            assert (found["served"], versions(found["components"])) == (True, [1, 1, 2, 1])
            assert versions(answer(run, "rollback", "emoji", "--wait", 600)["components"]) == [1, 1, 1, 1]
        assert registry.aliases(DECODER) == {"production": 1}

        # nobody follows now, and the registry ends while the command waits for somebody
        known = registry.survey("emoji").tags[PLAN_TAG]

        def end() -> None:
            while registry.survey("emoji").tags[PLAN_TAG] == known:
                pass
            server.stop()

        ending = threading.Thread(target=end)
        ending.start()
        status, out, err = run("promote", DECODER, 2, "--wait", 600)
        ending.join()
        assert (status, out) == (1, "")
        assert err == f"registry: the registry at {server.url} cannot be reached\n"
        with pytest.raises(RegistryAwayError):
            steps.rollback(registry, "emoji", Waits(0))
        assert run("status", "emoji")[2] == err
