"""How a canary does beside the version that it stands in for, and whether that is too bad."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from components.reference import ComponentRef
from registry.rollout.state import Canary, Rollout
from services.messages import Outcome


@dataclass(slots=True)
class Tally:
    """Requests of one version: how many, how many failed, how many gave no finite picture."""

    requests: int = 0
    errors: int = 0
    non_finite: int = 0

    def add(self, outcome: Outcome) -> None:
        """Count one more."""
        self.requests += 1
        self.errors += outcome.error
        self.non_finite += outcome.non_finite

    def share(self, count: int) -> float:
        """A count as a share of the requests, 0 without any."""
        return count / self.requests if self.requests else 0.0


@dataclass(slots=True)
class CanaryWatch:
    """Counts the requests of a canary and of the live version of its name since it began."""

    canary: Canary
    live: ComponentRef
    tallies: dict[ComponentRef, Tally] = field(default_factory=dict)

    def add(self, outcomes: Iterable[Outcome]) -> None:
        """Count what the two did."""
        for outcome in outcomes:
            if outcome.pin in (self.canary.ref, self.live):
                self.tallies.setdefault(outcome.pin, Tally()).add(outcome)

    def tally(self, ref: ComponentRef) -> Tally:
        """What one of them did so far."""
        return self.tallies.get(ref, Tally())

    def too_bad(self) -> str | None:
        """Why the canary is to end, in words; None while it may go on."""
        ours, theirs = self.tally(self.canary.ref), self.tally(self.live)
        if ours.requests < self.canary.least:
            return None
        rates = (
            ("failed", ours.errors, theirs.errors, self.canary.error_rate),
            ("gave no finite picture", ours.non_finite, theirs.non_finite, self.canary.non_finite_rate),
        )
        for what, count, beside, limit in rates:
            # where everything fails the canary is not to blame
            if ours.share(count) - theirs.share(beside) > limit:
                return (
                    f"{self.canary.ref} was rolled back: {count} of its {ours.requests} requests {what}, "
                    f"and {beside} of {theirs.requests} of {self.live}; the limit is {limit:g} more"
                )
        return None


def watch_of(rollout: Rollout, watch: CanaryWatch | None) -> CanaryWatch | None:
    """The watch of a rollout's canary: the one so far where nothing about it has changed; None without a canary."""
    canary = rollout.canary
    live = None if canary is None else rollout.ref(canary.ref.name)
    if canary is None or live is None:
        return None
    return watch if watch is not None and (watch.canary, watch.live) == (canary, live) else CanaryWatch(canary, live)
