"""How many replicas of the denoiser are needed: by the work that waits in them, and how fast that was seen to be done.

Numbers of calls say little: a walk of 50 steps at 1024x1024 is some hundred times one of 4 steps at 256x256, and calls
that share runs cost less than calls alone. This module is sent to Serve's controller as it is, so it imports nothing of
ours.
"""

from collections.abc import Mapping
from typing import Any

from ray.serve.config import AutoscalingContext

# of one replica: rows times latent pixels times evaluations still to be done, and how many of them a second does
WORK = "work"
SPEED = "speed"


class WorkPolicy:
    """As many replicas as have the waiting work done in so many seconds; Serve's bounds and delays come on top."""

    def __init__(self, wait_s: float) -> None:
        self._wait_s = wait_s

    def __call__(self, context: AutoscalingContext) -> tuple[float, dict[str, Any]]:
        """How many are wanted, with a fraction, and no state."""
        told = context.aggregated_metrics or {}
        work = told.get(WORK, {})
        # replicas that began without bounds tell nothing until they are exchanged
        wanted = replicas_for(work, told.get(SPEED, {}), self._wait_s) if work else None
        if wanted is None:
            wanted = float(context.target_num_replicas)
        # calls are no work yet while they wait for a replica, or for a version to be opened in one
        return max(wanted, 1.0) if context.total_num_requests else wanted, {}


def replicas_for(work: Mapping[Any, float], speed: Mapping[Any, float], wait_s: float) -> float | None:
    """How many replicas do all of `work` in `wait_s` seconds, each at the mean of the speeds that were measured.

    None where there is work and no speed yet: nobody can say.
    """
    total = sum(work.values())
    measured = [each for each in speed.values() if each > 0]
    if total == 0:
        return 0.0
    if not measured:
        return None
    return total / (sum(measured) / len(measured) * wait_s)
