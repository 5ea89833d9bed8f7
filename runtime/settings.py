"""How one component's session uses the machine."""

import os
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Provider = Literal["cpu", "cuda", "tensorrt"]


class SessionSettings(BaseModel):
    """Threads and provider of one session.

    `threads` is the number that share one operator's work; None takes every core that this process may use.
    `provider` "auto" takes CUDA where it attaches and else the CPU; a provider named here attaches or the start fails.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    threads: int | None = Field(None, ge=1, le=1024)
    provider: Literal["auto", "cpu", "cuda", "tensorrt"] = "auto"


def thread_count(settings: SessionSettings) -> int:
    """The number of threads that `settings` means on this machine, at least 1."""
    if settings.threads is not None:
        return settings.threads
    # a container's cpuset shows in the affinity, not in the number of cores
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
