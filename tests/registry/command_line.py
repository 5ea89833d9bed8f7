"""`python -m registry` in a test's own process."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from registry.commands.main import main

Run = Callable[..., tuple[int, str, str]]


def runner(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """The command line in a registry: its exit status, and what it wrote to either stream."""
    monkeypatch.setenv("LATENTWORKS_HOME", str(home))

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["registry", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        status = 0 if ended.value.code is None else ended.value.code
        assert isinstance(status, int)
        return status, out, err

    return run


def answer(run: Run, *arguments: object) -> Any:
    status, out, err = run(*arguments, "--json")
    assert (status, err) == (0, "")
    return json.loads(out)
