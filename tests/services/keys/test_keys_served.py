"""Keys on a server that is started as `make run` does, and a start that is refused for want of them."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from services.keys.records import KeyRecord, Role, digest_of, line_of
from services.keys.settings import KeyLimits
from tests.services.cluster import comes_true
from tests.services.server import GENERATIONS, ROOT, Served, command, environment, free_port, serving, temporary_home

ANN, BEN, OPERATOR = "lw-ann-1f", "lw-ben-2e", "lw-operator-3d"


def line(name: str, key: str, *roles: Role) -> str:
    return line_of(KeyRecord(name, digest_of(key.encode()), frozenset(roles), KeyLimits())) + "\n"


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [[], ["keys.burst=2"], ["keys.file=nowhere"]])
def test_a_start_that_other_machines_would_reach_is_refused(arguments: list[str], tmp_path: Path) -> None:
    said = {
        "": "Error: there are no keys, and other machines reach 0.0.0.0: set keys.file (docs/keys.md), listen on "
        "127.0.0.1, or set ingress.open=true to let anybody in",
        "keys.burst=2": "Error: keys.burst: does nothing without pictures_per_minute",
        "keys.file=nowhere": "Error: keys.file: cannot be read: No such file or directory",
    }
    start = command(*arguments, "--host", "0.0.0.0", "--port", str(free_port()))
    ended = subprocess.run(start, cwd=ROOT, env=environment(tmp_path), capture_output=True, text=True, timeout=300)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.strip() == said["".join(arguments)]
    assert not (tmp_path / "ray").exists(), "Ray was started"


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    with temporary_home() as path:
        yield path


@pytest.fixture(scope="module")
def served(toy_bundle: Path, home: Path) -> Iterator[Served]:
    file = home / "keys"
    file.write_text(line("ann", ANN, "images") + line("operator", OPERATOR, "operate"), encoding="utf-8")
    with serving(home, "bundle=toy", f"folder={toy_bundle}", f"keys.file={file}") as server:
        yield server


def draw(served: Served, key: str) -> int:
    body = {"prompt": "a", "steps": 2}
    return httpx.post(served.url + GENERATIONS, json=body, headers=bearer(key), timeout=120).status_code


@pytest.mark.slow
def test_probes_need_no_key_and_pictures_do(served: Served) -> None:
    assert httpx.get(served.url + "/readyz").status_code == 200
    assert httpx.post(served.url + GENERATIONS, json={"prompt": "a"}).status_code == 401
    assert [draw(served, key) for key in (ANN, BEN, OPERATOR)] == [200, 401, 403]
    assert httpx.get(served.url + "/v1/rollout", headers=bearer(OPERATOR)).status_code == 200


def metric(served: Served, name: str) -> float:
    page = httpx.get(served.url + "/metrics", headers=bearer(OPERATOR), timeout=30).text
    return sum(float(row.rsplit(" ", 1)[1]) for row in page.splitlines() if row.startswith(f"ray_latentworks_{name}{{"))


@pytest.mark.slow
def test_another_file_counts_without_a_restart_and_a_damaged_one_does_not(served: Served, home: Path) -> None:
    file = home / "keys"
    assert comes_true(lambda: metric(served, "keys") == 2)
    with file.open("a", encoding="utf-8") as out:
        out.write(line("ben", BEN, "images"))
    assert comes_true(lambda: draw(served, BEN) == 200)
    with file.open("a", encoding="utf-8") as out:
        out.write("canary-2b61\n")
    assert comes_true(lambda: metric(served, "keys_file_refused") == 1)
    assert [draw(served, key) for key in (ANN, BEN)] == [200, 200]
    file.write_text(line("ben", BEN, "images") + line("operator", OPERATOR, "operate"), encoding="utf-8")
    assert comes_true(lambda: draw(served, ANN) == 401)
    assert draw(served, BEN) == 200
    assert comes_true(lambda: metric(served, "keys_file_refused") == 0)
    logs = "".join(path.read_text(errors="replace") for path in served.logs.rglob("*") if path.is_file())
    assert "keys.file: line 4: must begin with NAME:SHA256" in logs
    secrets = [ANN, BEN, OPERATOR, "canary-2b61", *(digest_of(key.encode()).hex() for key in (ANN, BEN, OPERATOR))]
    assert not [secret for secret in secrets if secret in logs]
