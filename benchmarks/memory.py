"""What the processes of a server are for, and the most memory that they take."""

import re
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType
from typing import Self, TypeAlias

from benchmarks.errors import BenchmarkError
from benchmarks.processes import ProcessMemory, family, read_memory

Sample: TypeAlias = tuple[ProcessMemory, ...]

_INTERVAL_S = 0.25


class Role(StrEnum):
    """What a process of a served graph is there for."""

    REPLICA = "replica"
    PROXY = "proxy"
    CONTROLLER = "Serve's controller"
    DAEMON = "Ray's daemon"
    LAUNCHER = "launcher"
    OTHER = "other"


# The graph and the ingress are replicas too. The rest is there once for each node, whatever is served on it.
COUNTED = frozenset({Role.REPLICA, Role.PROXY})

# The first that fits counts. Ray writes `ray::CLASS` over the command line of a worker, and behind a dot the method
# that runs at the moment.
_COMMANDS: tuple[tuple[Role, re.Pattern[str]], ...] = (
    (Role.REPLICA, re.compile(r"ray::ServeReplica:[^:]+:(?P<name>[^.\s]+)")),
    (Role.PROXY, re.compile(r"ray::(?P<name>ProxyActor)\b")),
    (Role.PROXY, re.compile(r"(?:\S*/)?(?P<name>haproxy)(?:\s|$)")),
    (Role.CONTROLLER, re.compile(r"ray::(?P<name>ServeController)\b")),
    (Role.DAEMON, re.compile(r"ray::(?P<name>\w+)")),
    (Role.DAEMON, re.compile(r"ray-(?P<name>dashboard-\w+)")),
    (Role.DAEMON, re.compile(r"(?:\S*/)?(?P<name>gcs_server|raylet)(?:\s|$)")),
    (Role.DAEMON, re.compile(r"\S*python\S*(?: -\S+)* \S*/ray/\S*?(?P<name>\w+)\.py(?:\s|$)")),
    (Role.LAUNCHER, re.compile(r"\S*python\S*(?: -\S+)* (?:\S*/)?(?P<name>ray_app)\.py(?:\s|$)")),
    (Role.LAUNCHER, re.compile(r"\S*python\S*(?: -\S+)* (?:\S*/)?(?P<name>serve run)\s")),
)


def classify(command: str) -> tuple[Role, str]:
    """What a process does, by its command line, and its short name; a replica's is its deployment's."""
    for role, pattern in _COMMANDS:
        if match := pattern.match(command):
            return role, match["name"]
    return Role.OTHER, command.split(" ", 1)[0].rsplit("/", 1)[-1]


@dataclass(frozen=True, slots=True)
class ProcessPeak:
    """The most that one process took, in bytes: `pss` over the samples, `rss` over its whole life."""

    pid: int
    role: Role
    name: str
    counted: bool
    pss: int
    rss: int


@dataclass(frozen=True, slots=True)
class MemoryPeaks:
    """All processes of a server; `counted_pss` and `all_pss`, in bytes, are the most of any one moment."""

    processes: tuple[ProcessPeak, ...]
    counted_pss: int
    all_pss: int
    samples: int


def summarise(samples: Sequence[Sample]) -> MemoryPeaks:
    """The peaks over samples of all processes; a process is what its last command line says.

    Raises:
        ValueError: there is no sample.
    """
    by_pid: dict[int, list[ProcessMemory]] = {}
    for process in (process for sample in samples for process in sample):
        by_pid.setdefault(process.pid, []).append(process)
    peaks = [_peak(moments) for moments in by_pid.values()]
    peaks.sort(key=lambda peak: (list(Role).index(peak.role), -peak.pss))
    counted = {peak.pid for peak in peaks if peak.counted}
    return MemoryPeaks(
        processes=tuple(peaks),
        counted_pss=max(_sum_pss(process for process in sample if process.pid in counted) for sample in samples),
        all_pss=max(_sum_pss(sample) for sample in samples),
        samples=len(samples),
    )


def _peak(moments: Sequence[ProcessMemory]) -> ProcessPeak:
    role, name = classify(moments[-1].command)
    return ProcessPeak(
        pid=moments[-1].pid,
        role=role,
        name=name,
        counted=role in COUNTED,
        pss=max(moment.pss for moment in moments),
        rss=max(moment.peak_rss for moment in moments),
    )


def _sum_pss(processes: Iterable[ProcessMemory]) -> int:
    return sum(process.pss for process in processes)


class MemorySampler:
    """Looks at a process and all below it, from entry to exit of a `with` block and at both ends of it."""

    def __init__(self, pid: int) -> None:
        """Watch the process `pid` and its descendants; leaving raises BenchmarkError if a look failed."""
        self.samples: list[Sample] = []
        self._pid = pid
        self._done = threading.Event()
        self._fault: OSError | None = None
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._sample()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()
        if self._fault is not None and error is None:
            raise BenchmarkError(f"memory could not be read: {self._fault}")
        self._sample()

    def _watch(self) -> None:
        while not self._done.wait(_INTERVAL_S):
            try:
                self._sample()
            except OSError as fault:
                self._fault = fault
                return

    def _sample(self) -> None:
        found = (read_memory(pid) for pid in family(self._pid))
        self.samples.append(tuple(process for process in found if process is not None))
