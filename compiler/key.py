"""What a compiled copy is a copy of: its name changes with all that it depends on."""

import hashlib
import json
import platform
import re
from functools import cache
from pathlib import Path

from components.folder import MAIN_GRAPH, ComponentFolder
from runtime.compiled import recipe

_CPU_INFO = Path("/proc/cpuinfo")
# of the first core; what the others say of themselves (clock, number) says nothing of what the kernels may use
_FACTS = re.compile(
    r"^(vendor_id|cpu family|model|model name|flags|CPU implementer|CPU part|Features)\s*: *(.*)$", re.MULTILINE
)


@cache
def cpu_features(cpu_info: Path = _CPU_INFO) -> str:
    """A digest of this machine's CPU: maker, model and instruction sets, by which kernels and packing are chosen."""
    try:
        first, _, _ = cpu_info.read_text(encoding="utf-8", errors="replace").partition("\n\n")
        facts = [f"{name}={value}" for name, value in _FACTS.findall(first)]
    except OSError:
        facts = []
    return _digest([platform.machine(), platform.processor(), *facts])


def copy_key(folder: ComponentFolder) -> str:
    """The name of a component's copy on this machine: a sha256 over the digest, recipe and CPU that it depends on.

    Raises:
        ComponentError: the manifest cannot be read any more.
    """
    return _digest([folder.digest, MAIN_GRAPH, recipe(), cpu_features()])


def _digest(facts: object) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
