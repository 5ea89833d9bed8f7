"""Whether every replica has prepared a plan's versions, and what to do with one that cannot."""

from collections.abc import Callable, Sequence

from components.contract import Kind
from components.reference import ComponentRef, kind_of
from services.messages import ReplicaReport
from services.rollout.stages import Reports


class Preparation:
    """Follows the reports of the replicas; one replica of each stage that cannot prepare is replaced, once."""

    def __init__(self, versions: Sequence[ComponentRef], each_s: float, clock: Callable[[], float]) -> None:
        """Wait for `versions`; a replica has `each_s` seconds of the clock, and so has the one in its place."""
        self._versions: dict[Kind, list[ComponentRef]] = {}
        for ref in versions:
            self._versions.setdefault(kind_of(ref.name), []).append(ref)
        self._each_s = each_s
        self._clock = clock
        self._until = dict.fromkeys(self._versions, clock() + each_s)
        self._bad: dict[Kind, str] = {}
        self.failed: str | None = None

    @property
    def replaced(self) -> set[str]:
        """The replicas that are to end, so that others take their place."""
        return set(self._bad.values())

    def ready(self, reports: Reports) -> bool:
        """Whether all replicas that run hold all versions; else `failed` says so once there is no hope."""
        pending = [kind for kind in self._versions if not self._stage_ready(kind, reports.get(kind, ()))]
        return not pending

    def _stage_ready(self, kind: Kind, replicas: Sequence[ReplicaReport]) -> bool:
        bad = self._bad.get(kind)
        staying = [report for report in replicas if report.replica != bad]
        late = self._clock() >= self._until[kind]
        wrong = {report.replica: why for report in staying if (why := self._why_not(kind, report, late)) is not None}
        if bad is None and len(wrong) == 1:
            self._bad[kind] = next(iter(wrong))
            self._until[kind] = self._clock() + self._each_s
            return False
        gone = len(staying) == len(replicas)
        if staying and gone and all(self._holds_all(kind, report) for report in staying):
            return True
        if wrong:
            self.failed = f"{kind}: {next(iter(wrong.values()))}"
        elif late:
            self.failed = f"{kind}: no replica has prepared within {self._each_s:g} s"
        return False

    def _holds_all(self, kind: Kind, report: ReplicaReport) -> bool:
        found = (report.state(pin) for pin in self._versions[kind])
        return all(version is not None and version.state == "loaded" for version in found)

    def _why_not(self, kind: Kind, report: ReplicaReport, late: bool) -> str | None:
        for pin in self._versions[kind]:
            version = report.state(pin)
            if version is not None and version.state == "failed":
                return f"{pin} could not be prepared: {version.reason}"
            if late and (version is None or version.state != "loaded"):
                return f"{pin} was not prepared within {self._each_s:g} s"
        return None
