"""How one component's session uses the machine."""

import os
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Provider = Literal["cpu", "cuda", "tensorrt"]

_CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")


class SessionSettings(BaseModel):
    """Threads and provider of one session.

    `threads` is the number that share one operator's work; None takes every core that this process may use, by its
    affinity and by its container's quota.
    `provider` "auto" takes CUDA where it attaches and else the CPU; a provider named here attaches or the start fails.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    threads: int | None = Field(None, ge=1, le=1024)
    provider: Literal["auto", "cpu", "cuda", "tensorrt"] = "auto"


def thread_count(settings: SessionSettings, cpu_quota: Path = _CPU_QUOTA) -> int:
    """The number of threads that `settings` means on this machine, at least 1; `cpu_quota` is cgroup v2's `cpu.max`."""
    if settings.threads is not None:
        return settings.threads
    quota = _quota_cores(cpu_quota)
    return _affinity_cores() if quota is None else min(_affinity_cores(), quota)


def _affinity_cores() -> int:
    # a container's cpuset shows in the affinity, not in the number of cores
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _quota_cores(cpu_quota: Path) -> int | None:
    # A pod's cpu limit is time, "quota period" in microseconds, and shows nowhere else: one thread for each core of
    # the machine would use it up in a moment and then stand still for the rest of the period.
    try:
        quota, period = map(int, cpu_quota.read_text(encoding="ascii").split())
    except (OSError, ValueError):
        # there is no such file, or it says "max"
        return None
    return max(1, -(-quota // period)) if period > 0 else None
