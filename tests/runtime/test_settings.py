import os
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from runtime.settings import SessionSettings, thread_count


def test_threads_are_those_asked_for_or_all_that_this_process_may_use(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    no_quota = tmp_path / "cpu.max"
    assert thread_count(SessionSettings(threads=3), no_quota) == 3
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {1, 4, 5}, raising=False)
    assert thread_count(SessionSettings(), no_quota) == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert thread_count(SessionSettings(), no_quota) == 1


@pytest.mark.parametrize(
    ("said", "threads"),
    [
        ("200000 100000\n", 2),
        ("250000 100000\n", 3),
        ("5000 100000\n", 1),
        ("6400000 100000\n", 8),
        ("max 100000\n", 8),
        ("", 8),
        ("100000 0\n", 8),
        ("\xff", 8),
    ],
)
def test_a_containers_quota_bounds_the_threads(
    said: str, threads: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(8)), raising=False)
    cpu_max = tmp_path / "cpu.max"
    cpu_max.write_text(said, encoding="latin-1")
    assert thread_count(SessionSettings(), cpu_max) == threads
    assert thread_count(SessionSettings(threads=9), cpu_max) == 9


@pytest.mark.parametrize("wrong", [{"threads": 0}, {"threads": 1025}, {"provider": "tpu"}, {"thread": 1}])
def test_what_is_no_setting_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        SessionSettings.model_validate(wrong)
