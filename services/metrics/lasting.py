"""Gauges that stay on the page at what they were set to."""

import atexit
import threading
from collections.abc import Mapping
from weakref import WeakSet

from ray.util.metrics import Gauge

# Ray drops a gauge that is not set anew within two of its reports, and reports every second at most
_AGAIN_S = 1.0


class LastingGauge:
    """A gauge that is set anew all the time, until nobody has it any more; usable from any thread."""

    def __init__(self, gauge: Gauge) -> None:
        self._gauge = gauge
        self._values: dict[tuple[tuple[str, str], ...], float] = {}
        self._lock = threading.Lock()
        _KEEPER.keep(self)

    def set(self, value: float, tags: Mapping[str, str] | None = None) -> None:
        """Set it, of these labels."""
        labels = dict(tags or {})
        with self._lock:
            self._gauge.set(value, tags=labels)
            # once it was taken: what is refused would be refused again each time
            self._values[tuple(labels.items())] = value

    def again(self) -> None:
        """Set all of it to what it is."""
        with self._lock:
            for labels, value in self._values.items():
                self._gauge.set(value, tags=dict(labels))


class _Keeper:
    """Sets a process's gauges anew, in one thread that begins with the first of them."""

    def __init__(self) -> None:
        self._gauges: WeakSet[LastingGauge] = WeakSet()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._end = threading.Event()

    def keep(self, gauge: LastingGauge) -> None:
        with self._lock:
            self._gauges.add(gauge)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="gauges", daemon=True)
                self._thread.start()
                # nothing is to be measured while the interpreter ends
                atexit.register(self._end.set)

    def _run(self) -> None:
        while not self._end.wait(_AGAIN_S):
            self._round()

    def _round(self) -> None:
        with self._lock:
            gauges = list(self._gauges)
        for gauge in gauges:
            gauge.again()


_KEEPER = _Keeper()
