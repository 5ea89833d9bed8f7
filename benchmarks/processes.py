"""Processes and their memory, read from Linux's /proc."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_KIB = 1024
_KIB_LINE = re.compile(r"^(?P<name>\w+):\s+(?P<kib>\d+) kB$", re.MULTILINE)
_PARENT_LINE = re.compile(r"^PPid:\s+(?P<pid>\d+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class ProcessMemory:
    """One process at one moment, in bytes.

    `pss` is its private memory and its share of what it has in common with others; `peak_rss` is the most it ever had
    in memory, common pages counted in full.
    """

    pid: int
    command: str
    pss: int
    rss: int
    peak_rss: int


def read_memory(pid: int) -> ProcessMemory | None:
    """The memory of a process of this user; None once it has ended."""
    folder = _PROC / str(pid)
    try:
        command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        rollup = _sizes((folder / "smaps_rollup").read_text())
        status = _sizes((folder / "status").read_text())
    except (FileNotFoundError, ProcessLookupError):
        return None
    # a process that has ended and waits for its parent has no memory any more
    if "Pss" not in rollup or "VmHWM" not in status:
        return None
    return ProcessMemory(pid, command, rollup["Pss"], rollup["Rss"], status["VmHWM"])


def command_line(pid: int) -> str:
    """The command of a process, or the title that it gave itself; empty once it has ended."""
    try:
        return (_PROC / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def own_memory() -> ProcessMemory:
    """The memory of this process."""
    memory = read_memory(os.getpid())
    assert memory is not None, "this process runs"
    return memory


def own_private() -> int:
    """The bytes of this process that no other shares: what one more of its kind costs the machine."""
    rollup = _sizes((_PROC / "self" / "smaps_rollup").read_text())
    return rollup["Private_Clean"] + rollup["Private_Dirty"]


def family(pid: int) -> list[int]:
    """A process and all below it, by id; empty once it has ended."""
    parents = {}
    for folder in _PROC.iterdir():
        if folder.name.isdecimal() and (parent := _parent(folder)) is not None:
            parents[int(folder.name)] = parent
    found = [pid] if pid in parents else []
    # the list grows while it is walked
    for member in found:
        found += [child for child, parent in parents.items() if parent == member]
    return found


def _parent(folder: Path) -> int | None:
    try:
        match = _PARENT_LINE.search((folder / "status").read_text())
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if match is None else int(match["pid"])


def _sizes(text: str) -> dict[str, int]:
    return {match["name"]: int(match["kib"]) * _KIB for match in _KIB_LINE.finditer(text)}
