"""`python -m pipeline.trial`: try one component and say whether it may serve; one order on stdin, one report on stdout.

The candidate is somebody else's file, so its graph runs in a process of its own that is ended with it. The limits stand
before the candidate is looked at. The memory limit comes after the libraries are loaded: a library or Python itself
that finds no memory while it loads ends in ways that nobody can tell from a crash.
"""

import os
import resource
import signal
import sys

from components.trial import TrialOrder, TrialReport, needs_more_memory
from pipeline.own_memory import status_bytes

_NICENESS = 10

# the parent ends the trial in time; this ends one whose parent has died
_GRACE_S = 10


def main() -> None:
    """Read an order, try the component within its limits, and write the report."""
    order = TrialOrder.model_validate_json(sys.stdin.buffer.read(), strict=True)
    # what a library prints must not come into the report
    answer = os.dup(1)
    os.dup2(2, 1)
    report = _tried(order)
    with os.fdopen(answer, "w", encoding="utf-8") as stream:
        stream.write(report.model_dump_json())


def _tried(order: TrialOrder) -> TrialReport:
    os.nice(_NICENESS)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.alarm(order.time_s + _GRACE_S)
    from pipeline.examination import try_component

    # what counts towards RLIMIT_DATA
    private = status_bytes("VmData")
    if private is not None and private > order.memory_bytes:
        return TrialReport(reasons=(needs_more_memory(order),))
    # Private memory alone: RLIMIT_AS would also count the weight files that ONNX Runtime maps, which cost nothing.
    resource.setrlimit(resource.RLIMIT_DATA, (order.memory_bytes, order.memory_bytes))
    return try_component(order)


if __name__ == "__main__":
    main()
