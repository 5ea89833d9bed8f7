"""On what the figures were measured."""

import os
import platform
import re
from dataclasses import dataclass
from importlib.metadata import packages_distributions, version
from pathlib import Path

from runtime.settings import SessionSettings, thread_count

# import names: ONNX Runtime's distribution has another name on another platform
_LIBRARIES = ("onnxruntime", "ray", "numpy")
_MODEL_LINE = re.compile(r"^model name\s*:\s*(?P<name>.+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine as this process sees it; `load_average` is that of the minute before the measurement."""

    cores: int
    cpu: str
    memory_bytes: int
    system: str
    python: str
    libraries: dict[str, str]
    load_average: float


def describe_machine() -> Machine:
    """Look at the machine and the installed libraries."""
    installed = packages_distributions()
    return Machine(
        cores=thread_count(SessionSettings()),
        cpu=_cpu(),
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        system=platform.system(),
        python=platform.python_version(),
        libraries={name: version(installed[name][0]) for name in _LIBRARIES},
        load_average=os.getloadavg()[0],
    )


def _cpu() -> str:
    match = _MODEL_LINE.search(Path("/proc/cpuinfo").read_text())
    return platform.machine() if match is None else match["name"]
