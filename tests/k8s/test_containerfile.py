"""The Containerfile: what hadolint says of it, and whether what its serving image holds starts the graph."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from benchmarks.server import environment, free_port
from tests.services.server import temporary_home

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "Containerfile").read_text(encoding="utf-8")
HADOLINT = Path(sys.executable).with_name("hadolint")


def instructions(stage: str) -> list[tuple[str, str]]:
    """What a stage does, with what it begins from, in order: each instruction and its text on one line."""
    joined = re.sub(r"\\\n\s*", "", "\n".join(line for line in TEXT.splitlines() if not line.startswith("#")))
    stages: dict[str, list[tuple[str, str]]] = {}
    current: list[tuple[str, str]] = []
    for line in filter(None, joined.splitlines()):
        word, _, rest = line.partition(" ")
        if word == "FROM":
            base, _as, name = rest.split()
            current = stages[name] = list(stages.get(base, []))
        else:
            current.append((word, rest))
    return stages[stage]


def copied(stage: str) -> Iterator[str]:
    for word, rest in instructions(stage):
        if word == "COPY":
            *sources, _to = rest.split()
            yield from (source.rstrip("/") for source in sources)


def test_hadolint_finds_nothing() -> None:
    done = subprocess.run([HADOLINT, ROOT / "Containerfile"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("stage", ["serving", "gpu", "registry", "exporter"])
def test_no_image_runs_as_root(stage: str) -> None:
    users = [rest for word, rest in instructions(stage) if word == "USER"]
    assert users[-1] == "1000"


@pytest.mark.parametrize("stage", ["serving", "gpu", "registry", "exporter"])
def test_everything_is_installed_by_the_constraints(stage: str) -> None:
    commands = [rest for word, rest in instructions(stage) if word == "RUN" and "pip install" in rest]
    assert commands
    assert all(command.startswith("pip install --constraint constraints.txt ") for command in commands)


def test_what_is_copied_is_not_left_out_of_the_build() -> None:
    ignored = (ROOT / ".containerignore").read_text(encoding="utf-8").splitlines()
    let_in = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    assert ignored[0] == "*"
    assert let_in == set(copied("serving")) | set(copied("exporter"))


def test_kuberays_probes_find_their_programs() -> None:
    [apt] = [rest for word, rest in instructions("base") if word == "RUN" and "apt-get install" in rest]
    assert {"bash", "wget"} <= set(apt.split())


@pytest.mark.slow
def test_the_serving_image_starts_the_graph(tmp_path: Path) -> None:
    """Its copies and its installs, in an empty virtual environment; what is Debian's is this machine's."""
    image = tmp_path / "image"
    image.mkdir()
    for source in copied("serving"):
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, image / source, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / source, image / source)
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    programs = tmp_path / "venv" / "bin"
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    for word, rest in instructions("serving"):
        if word == "RUN" and rest.startswith("pip install"):
            subprocess.run(shlex.split(rest), cwd=image, env=os.environ | {"PATH": path}, check=True)
    absent = "import importlib.util as u; assert not any(map(u.find_spec, ('torch', 'diffusers', 'pytest')))"
    subprocess.run([programs / "python", "-c", absent], cwd=image, check=True)
    with temporary_home() as home:
        port = free_port()
        variables = environment(os.environ, home) | {"PATH": path, "LATENTWORKS_INGRESS__OPEN": "true"}
        command = [str(programs / "python"), "ray_app.py", "--port", str(port)]
        with subprocess.Popen(command, cwd=image, env=variables, stdout=subprocess.PIPE, text=True) as server:
            try:
                assert server.stdout is not None
                said = next((line for line in server.stdout if "is ready at" in line), None)
                assert said is not None, "it ended before it was ready"
                asked = {"prompt": "a red apple", "steps": 2}
                url = f"http://127.0.0.1:{port}/v1/images/generations"
                answer = httpx.post(url, json=asked, timeout=None, trust_env=False)
                assert answer.status_code == httpx.codes.OK, answer.text
            finally:
                server.terminate()
                server.wait()
