import os
from typing import Any

import pytest
from pydantic import ValidationError

from runtime.settings import SessionSettings, thread_count


def test_threads_are_those_asked_for_or_all_that_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    assert thread_count(SessionSettings(threads=3)) == 3
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {1, 4, 5}, raising=False)
    assert thread_count(SessionSettings()) == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert thread_count(SessionSettings()) == 1


@pytest.mark.parametrize("wrong", [{"threads": 0}, {"threads": 1025}, {"provider": "tpu"}, {"thread": 1}])
def test_what_is_no_setting_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        SessionSettings.model_validate(wrong)
