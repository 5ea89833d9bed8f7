"""`python -m pipeline.trial`: try one component and say whether it may serve; one order on stdin, one report on stdout.

The candidate is somebody else's file, so its graph runs in a process of its own that is ended with it. The limits are
set before ONNX Runtime is even imported.
"""

import os
import resource
import signal
import sys

from components.trial import TrialOrder, TrialReport

_NICENESS = 10

# the parent ends the trial in time; this ends one whose parent has died
_GRACE_S = 10


def main() -> None:
    """Read an order, try the component within its limits, and write the report."""
    order = TrialOrder.model_validate_json(sys.stdin.buffer.read(), strict=True)
    # what a library prints must not come into the report
    answer = os.dup(1)
    os.dup2(2, 1)
    _confine(order)
    report = _tried(order)
    with os.fdopen(answer, "w", encoding="utf-8") as stream:
        stream.write(report.model_dump_json())


def _confine(order: TrialOrder) -> None:
    os.nice(_NICENESS)
    # Private memory alone: RLIMIT_AS would also count the weight files that ONNX Runtime maps, which cost nothing.
    resource.setrlimit(resource.RLIMIT_DATA, (order.memory_bytes, order.memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.alarm(order.time_s + _GRACE_S)


def _tried(order: TrialOrder) -> TrialReport:
    from pipeline.examination import try_component

    return try_component(order)


if __name__ == "__main__":
    main()
