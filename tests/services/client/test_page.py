"""docs/client.md: its blocks run against a server, and its tables are the code's."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from services.client import errors
from services.client.commands.printing import Exit
from services.client.retries import Retries
from tests.services.client.conftest import ROOT, surroundings

PAGE = (ROOT / "docs/client.md").read_text(encoding="utf-8")
_FENCE = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
BLOCKS = _FENCE.findall(PAGE)


@pytest.mark.slow
def test_the_blocks_run_one_after_the_other(url: str, tmp_path: Path) -> None:
    assert [language for language, _ in BLOCKS] == ["python", "python", "sh", "sh"]
    for language, code in BLOCKS:
        python = language == "python"
        done = subprocess.run(
            [sys.executable, "-c", code] if python else ["sh", "-ec", f'python() {{ {sys.executable} "$@"; }}\n{code}'],
            cwd=tmp_path,
            env=surroundings(LATENTWORKS_SERVER=url),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    assert sorted(path.suffix for path in (tmp_path / "drawn").glob("[0-9]*")) == [".png", ".png", ".webp", ".webp"]


def test_the_statuses_are_those_of_the_page() -> None:
    told = {int(status) for status in re.findall(r"^\| (\d+) \|", PAGE, re.MULTILINE)}
    assert told == {0, 130, *(int(one) for one in Exit)}


@pytest.mark.parametrize("name", ["InputError", "ServerRefused", "Unreachable", "TimedOut", "UnreadableAnswer"])
def test_the_errors_are_those_of_the_page(name: str) -> None:
    assert f"| `{name}` |" in PAGE
    assert issubclass(getattr(errors, name), errors.ClientError)


def test_the_bounds_are_those_of_the_page() -> None:
    assert f"Retries(times={Retries().times}, most_wait_s={Retries().most_wait_s:.0f})" in PAGE
    assert Retries().first_wait_s == 0.5
