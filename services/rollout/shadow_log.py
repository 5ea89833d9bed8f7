"""What a shadow showed: for the status at once, for MLflow from time to time."""

import math
from dataclasses import dataclass, field

from components.reference import ComponentRef
from registry.rollout.state import Rollout
from services.messages import ShadowResult

# what waits for MLflow while it is away
_MOST_WAITING = 10_000


@dataclass(slots=True)
class ShadowTally:
    """How a shadow's pictures compare so far; PSNR of equal pictures is infinite and counts apart."""

    pictures: int = 0
    equal: int = 0
    failed: int = 0
    non_finite: int = 0
    psnr_sum: float = 0.0
    psnr_least: float = math.inf
    seconds: float = 0.0
    live_seconds: float = 0.0

    def add(self, result: ShadowResult) -> None:
        """Count one more picture."""
        self.pictures += 1
        if result.failed is not None or result.psnr_db is None or result.seconds is None:
            self.non_finite += not result.finite
            self.failed += result.finite
            return
        self.seconds += result.seconds
        self.live_seconds += result.live_seconds
        if math.isinf(result.psnr_db):
            self.equal += 1
        else:
            self.psnr_sum += result.psnr_db
            self.psnr_least = min(self.psnr_least, result.psnr_db)

    @property
    def compared(self) -> int:
        """Pictures of both versions that differ."""
        return self.pictures - self.failed - self.non_finite - self.equal

    def figures(self) -> dict[str, float]:
        """The tally in numbers, as `status` shows it and MLflow keeps it."""
        found: dict[str, float] = {
            "pictures": self.pictures,
            "equal": self.equal,
            "failed": self.failed,
            "non_finite": self.non_finite,
        }
        if self.compared:
            found |= {"psnr_db.mean": self.psnr_sum / self.compared, "psnr_db.least": self.psnr_least}
        if decoded := self.compared + self.equal:
            found |= {"seconds.mean": self.seconds / decoded, "live_seconds.mean": self.live_seconds / decoded}
        return found


@dataclass(slots=True)
class ShadowLog:
    """Tallies one shadow, and keeps what MLflow has not been told yet."""

    ref: ComponentRef
    tally: ShadowTally = field(default_factory=ShadowTally)
    waiting: list[ShadowResult] = field(default_factory=list)
    run: str | None = None
    logged: int = 0

    def add(self, result: ShadowResult) -> None:
        """Take one result; those of another version came too late."""
        if result.pin == self.ref:
            self.tally.add(result)
            if len(self.waiting) < _MOST_WAITING:
                self.waiting.append(result)


def log_of(rollout: Rollout, log: ShadowLog | None) -> ShadowLog | None:
    """The log of a rollout's shadow: the one so far where it is of the same version; None without a shadow."""
    shadow = rollout.shadow
    if shadow is None:
        return None
    return log if log is not None and log.ref == shadow.ref else ShadowLog(shadow.ref)
