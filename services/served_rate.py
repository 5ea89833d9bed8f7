"""How fast work is served, from the runs that were measured."""

_KEPT = 0.95


class ServedRate:
    """A mean over the latest runs, each run before counting 0.95 times as much: some twenty of them matter."""

    def __init__(self) -> None:
        self._work = 0.0
        self._seconds = 0.0

    def served(self, work: float, seconds: float) -> None:
        """One run served `work`, in any unit, in so many seconds."""
        self._work = self._work * _KEPT + work
        self._seconds = self._seconds * _KEPT + seconds

    @property
    def per_second(self) -> float | None:
        """Work in a second; None before there was a run."""
        return self._work / self._seconds if self._seconds > 0 else None
