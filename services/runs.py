"""A run of the U-Net that several walks share: under way, and settled."""

import asyncio
from dataclasses import dataclass

from diffusion.batcher import Run
from runtime.errors import RuntimeFault
from services.joint_runs import Break, Outcome
from services.walks import ActiveWalk


@dataclass(frozen=True, slots=True, eq=False)
class UnderWay:
    """A run that has begun: the walks that share it, whose first it is, and what can break it off.

    `number` counts the runs that had begun before. It pauses first, for `pause_s`, where it may stop the replica.
    `outcome` says, once the run has ended, what went wrong.
    """

    run: Run
    number: int
    started: float
    pause_s: float
    walks: tuple[ActiveWalk, ...]
    first_of: tuple[ActiveWalk, ...]
    broken_off: Break
    outcome: asyncio.Future[Outcome]


@dataclass(frozen=True, slots=True, eq=False)
class Settled:
    """A run that has ended: how long it took, the walks that it moved, and those that it failed with why."""

    under_way: UnderWay
    seconds: float
    together: RuntimeFault | None
    moved: tuple[ActiveWalk, ...]
    failed: tuple[tuple[ActiveWalk, Exception], ...]
