"""Moving tracks by one evaluation together, and where that fails each alone."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.denoiser import Denoiser
from pipeline.track import Track
from runtime.errors import RuntimeFault
from runtime.interrupt import Interrupt


class Break:
    """Breaks off a joint run, or the runs that take its place."""

    def __init__(self) -> None:
        self.asked = False
        self._interrupt: Interrupt | None = None

    def interrupt(self) -> Interrupt:
        """What breaks off the next run of the session; it is broken off already where that was asked."""
        self._interrupt = Interrupt()
        if self.asked:
            self._interrupt.break_off()
        return self._interrupt

    def ask(self) -> None:
        """Break off what is under way and what would follow."""
        self.asked = True
        if self._interrupt is not None:
            self._interrupt.break_off()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What went wrong for each of the tracks, None where nothing did, and what for all of them together."""

    faults: tuple[Exception | None, ...]
    together: RuntimeFault | None = None


def advance(stage: Denoiser, tracks: Sequence[Track], broken_off: Break, pause_s: float = 0.0) -> Outcome:
    """Move tracks by one evaluation in one run; where the runtime fails each in a run of its own: one may be at fault.

    What else goes wrong is raised: then some may have moved and others not. `pause_s` passes first.
    """
    if pause_s:
        time.sleep(pause_s)
    fault = _run(stage, tracks, broken_off)
    if fault is None or len(tracks) == 1 or broken_off.asked:
        return Outcome((fault,) * len(tracks))
    return Outcome(tuple(_run_alone(stage, track, broken_off) for track in tracks), fault)


def _run_alone(stage: Denoiser, track: Track, broken_off: Break) -> Exception | None:
    try:
        return _run(stage, [track], broken_off)
    except Exception as error:  # noqa: BLE001 - told to whoever waits for this track; the others have moved
        return error


def _run(stage: Denoiser, tracks: Sequence[Track], broken_off: Break) -> RuntimeFault | None:
    try:
        stage.advance(tracks, broken_off.interrupt())
    except RuntimeFault as fault:
        return fault
    return None
