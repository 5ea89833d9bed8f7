"""Runs the build of a copy in a child process, whose memory goes with it."""

import os
import subprocess
import sys
from pathlib import Path

from compiler.errors import CompilerError
from components.folder import ComponentFolder
from runtime.settings import SessionSettings

_ROOT = Path(__file__).resolve().parent.parent


def build_in_child(folder: ComponentFolder, settings: SessionSettings, into: Path) -> None:
    """Have a copy of a component made in the empty folder `into`; it takes the time of several openings.

    Raises:
        CompilerError: no copy was made; the message says why.
    """
    command = [sys.executable, "-m", "compiler.build", str(folder.path), str(into), settings.model_dump_json()]
    # a replica may have been started anywhere
    path = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH"))))
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env={**os.environ, "PYTHONPATH": path},
    ) as child:
        assert child.stderr is not None, "a pipe"
        # not communicate, which closes the child's stdin: its sign that we are gone
        lines = child.stderr.read().strip().splitlines()
        status = child.wait()
    if status:
        raise CompilerError(lines[-1] if status == 1 and lines else f"the build ended with status {status}")
