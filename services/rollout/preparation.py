"""Whether every replica has prepared a plan's versions, and what to do with one that cannot."""

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

from components.contract import Kind
from components.reference import ComponentRef, kind_of
from services.messages import PassesWith, ReplicaReport
from services.rollout.stages import Reports


class _Fault(NamedTuple):
    reason: str
    passes_with: PassesWith | None = None


class Preparation:
    """Follows the reports of the replicas; one replica of each stage that cannot prepare is replaced, once.

    What passes, such as a registry that is away, is waited for, and is no replica's fault.
    """

    def __init__(self, versions: Sequence[ComponentRef], each_s: float, clock: Callable[[], float]) -> None:
        """Wait for `versions`; a replica has `each_s` seconds of the clock, and so has the one in its place."""
        self._versions: dict[Kind, list[ComponentRef]] = {}
        for ref in versions:
            self._versions.setdefault(kind_of(ref.name), []).append(ref)
        self._each_s = each_s
        self._clock = clock
        self._until = dict.fromkeys(self._versions, clock() + each_s)
        self._bad: dict[Kind, str] = {}
        self._faults: list[_Fault] = []

    @property
    def failed(self) -> str | None:
        """Why there is no hope, None while there is."""
        # what does not pass tells more
        worst = min(self._faults, key=lambda fault: fault.passes_with is not None, default=None)
        return None if worst is None else worst.reason

    @property
    def away(self) -> bool:
        """Whether it failed for want of the registry alone."""
        return bool(self._faults) and all(fault.passes_with == "registry" for fault in self._faults)

    @property
    def replaced(self) -> set[str]:
        """The replicas that are to end, so that others take their place."""
        return set(self._bad.values())

    def ready(self, reports: Reports, resting: Collection[Kind] = ()) -> bool:
        """Whether all replicas that run hold all versions; else `failed` says so once there is no hope.

        A stage that is `resting` has no replica and needs none.
        """
        self._faults = []
        # where one ended that could not prepare, the next one has to show that it can
        exempt = [kind for kind in resting if not reports.get(kind) and kind not in self._bad]
        # once it is needed, what starts has all of its time
        self._until |= dict.fromkeys(exempt, self._clock() + self._each_s)
        pending = [
            kind for kind in self._versions if kind not in exempt and not self._stage_ready(kind, reports.get(kind, ()))
        ]
        return not pending

    def _stage_ready(self, kind: Kind, replicas: Sequence[ReplicaReport]) -> bool:
        bad = self._bad.get(kind)
        staying = [report for report in replicas if report.replica != bad]
        late = self._clock() >= self._until[kind]
        wrong = {report.replica: why for report in staying if (why := self._why_not(kind, report, late)) is not None}
        if bad is None and [fault.passes_with for fault in wrong.values()] == [None]:
            self._bad[kind] = next(iter(wrong))
            self._until[kind] = self._clock() + self._each_s
            return False
        gone = len(staying) == len(replicas)
        if staying and gone and all(self._holds_all(kind, report) for report in staying):
            return True
        if wrong:
            self._faults += [fault._replace(reason=f"{kind}: {fault.reason}") for fault in wrong.values()]
        elif late:
            self._faults.append(_Fault(f"{kind}: no replica has prepared within {self._each_s:g} s"))
        return False

    def _holds_all(self, kind: Kind, report: ReplicaReport) -> bool:
        found = (report.state(pin) for pin in self._versions[kind])
        return all(version is not None and version.state == "loaded" for version in found)

    def _why_not(self, kind: Kind, report: ReplicaReport, late: bool) -> _Fault | None:
        passing = None
        for pin in self._versions[kind]:
            version = report.state(pin)
            if version is not None and version.state == "failed":
                fault = _Fault(f"{pin} could not be prepared: {version.reason}", version.passes_with)
                if version.passes_with is None:
                    return fault
                passing = fault if late else None
            elif late and (version is None or version.state != "loaded"):
                return _Fault(f"{pin} was not prepared within {self._each_s:g} s")
        return passing
