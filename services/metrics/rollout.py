"""What the rollout controller counts."""

from collections.abc import Mapping

from components.contract import Kind
from components.reference import ComponentRef
from services.metrics.catalogue import Rollout
from services.metrics.made import counter, gauge


class RolloutMetrics:
    """What the rollout controller counts."""

    def __init__(self) -> None:
        self._live_version = gauge(Rollout.LIVE_VERSION)
        self._away = gauge(Rollout.AWAY_SECONDS)
        self._rollouts = counter(Rollout.ROLLOUTS)
        self._rolled_back = counter(Rollout.ROLLED_BACK)
        self._live: Mapping[Kind, ComponentRef] = {}

    def lives(self, pins: Mapping[Kind, ComponentRef]) -> None:
        """These are what new requests are pinned to from now on."""
        gone = [(kind, pin) for kind, pin in self._live.items() if pins.get(kind) != pin]
        for live, named in ((0, gone), (1, pins.items())):
            for kind, pin in named:
                self._live_version.set(live, tags={"stage": kind.value, "version": str(pin)})
        self._live = dict(pins)

    def away(self, seconds: float) -> None:
        """The registry has not answered for so long."""
        self._away.set(seconds)

    def rolled_out(self, outcome: str) -> None:
        """A plan came to its end: live or stopped."""
        self._rollouts.inc(tags={"outcome": outcome})

    def canary_rolled_back(self) -> None:
        """A canary did too badly."""
        self._rolled_back.inc()
