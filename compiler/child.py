"""Runs the build of a copy in a child process, whose memory goes with it, and which is ended when it hangs."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from compiler.errors import CompilerError
from components.folder import ComponentFolder
from runtime.child import child
from runtime.settings import SessionSettings

_ROOT = Path(__file__).resolve().parent.parent

# SD 1.5's 3.4 GB took 74 to 185 s in a niced child on two busy cores, some 20 to 55 s per gigabyte
_LEAST_S = 300.0
_S_PER_GB = 300.0


def build_within_s(folder: ComponentFolder) -> float:
    """How long a build may take, far longer than one that does not hang."""
    return _LEAST_S + _S_PER_GB * sum(record.size for record in folder.manifest.files.values()) / 1e9


def build_in_child(folder: ComponentFolder, settings: SessionSettings, into: Path) -> None:
    """Have a copy of a component made in the empty folder `into`; it takes the time of several openings.

    However that ends, the child is gone when this returns.

    Raises:
        CompilerError: no copy was made, or not within `build_within_s`; the message says why.
    """
    command = [sys.executable, "-m", "compiler.build", str(folder.path), str(into), settings.model_dump_json()]
    # a replica may have been started anywhere
    path = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH"))))
    with tempfile.TemporaryFile() as log:
        # its standard input is open as long as we live: its end is the child's sign that we are gone
        with child(command, {**os.environ, "PYTHONPATH": path}, log) as process:
            try:
                status = process.wait(within_s := build_within_s(folder))
            except subprocess.TimeoutExpired:
                raise CompilerError(f"the build hung: it was ended after {within_s:g} s") from None
        log.seek(0)
        lines = log.read().decode(errors="replace").strip().splitlines()
    if status:
        raise CompilerError(lines[-1] if status == 1 and lines else f"the build ended with status {status}")
