"""Where spans go unless somebody names another exporter: files beside Serve's logs, written by a thread of their own.

Serve's own exporter writes each span as it ends, on the event loop that ended it.
"""

import os
import time
from pathlib import Path

from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter
from ray.serve._private.logging_utils import get_serve_logs_dir

_EVERY_MS = 1000


def beside_logs() -> list[SpanProcessor]:
    """What Serve's tracing asks an exporter for: spans go to one file of this process, every second."""
    folder = Path(get_serve_logs_dir()) / "spans"
    folder.mkdir(parents=True, exist_ok=True)
    # the system gives the id of a process that ended to another
    file = folder / f"{os.getpid()}-{time.time_ns()}.json"
    out = file.open("a", encoding="utf-8")
    return [BatchSpanProcessor(ConsoleSpanExporter(out=out), schedule_delay_millis=_EVERY_MS)]
