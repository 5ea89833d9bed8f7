"""A trial in a process of its own, under a limit of time and memory.

The registry does not import the pipeline, which knows how a component is run. `python -m pipeline.trial` is all that
the one knows of the other: an order goes in as JSON, a report comes out. A candidate that hangs, crashes or takes all
the memory it can get takes that process with it, and nothing else.
"""

import logging
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO

from pydantic import ValidationError

from components.trial import TrialOrder, TrialReport, needs_more_memory
from runtime.child import child

_log = logging.getLogger(__name__)

_COMMAND = (sys.executable, "-m", "pipeline.trial")

# how Python and the loader say that an allocation failed, where the trial itself could not any more
_NO_MEMORY = (
    "MemoryError",
    "bad_alloc",
    "annot allocate memory",
    "emory allocation",
    "failed to map segment",
    "cannot map zero-fill pages",
)

# A candidate is somebody else's file: no credentials of the registry or a cloud lie beside it.
_PASSED_ON = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TMPDIR", "LANG", "LC_ALL", "CUDA_VISIBLE_DEVICES")


def run_trial(order: TrialOrder) -> TrialReport:
    """Try a component in a child process; however that ends, the report says it.

    The child and all that it started are gone when this returns, also by an exception.
    """
    with tempfile.TemporaryFile() as log:
        try:
            with child(_COMMAND, _environment(), log, stdout=subprocess.PIPE) as process:
                answer, _ = process.communicate(order.model_dump_json().encode(), timeout=order.time_s)
        except subprocess.TimeoutExpired:
            return TrialReport(reasons=(f"time: did not finish within the limit of {order.time_s} s",))
        return _report(process.returncode, answer, order, log)


def _environment() -> dict[str, str]:
    # the child finds the rooms where this process found them, whatever folder either was started in
    path = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)
    return {name: os.environ[name] for name in _PASSED_ON if name in os.environ} | {"PYTHONPATH": path}


def _report(status: int, answer: bytes, order: TrialOrder, log: IO[bytes]) -> TrialReport:
    try:
        if status == 0:
            return TrialReport.model_validate_json(answer, strict=True)
    except ValidationError as error:
        _log.error("the trial's report cannot be read: %s", error)
    log.seek(0)
    said = log.read().decode(errors="replace").strip()
    _log.error("a trial ended with status %d: %s", status, said[-2000:])
    if any(words in said for words in _NO_MEMORY):
        return TrialReport(reasons=(needs_more_memory(order),))
    if status == -signal.SIGKILL:
        return TrialReport(reasons=("memory: the system ended the trial, as it does where memory runs out",))
    if status < 0:
        return TrialReport(reasons=(f"the candidate crashed ONNX Runtime (signal {signal.Signals(-status).name})",))
    return TrialReport(reasons=(f"the trial itself failed (status {status}); the log of this process says more",))
