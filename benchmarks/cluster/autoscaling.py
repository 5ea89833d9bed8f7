"""Replicas that come with the work and go with it, by the policies of the overlay."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from benchmarks.cluster.application import Application
from benchmarks.cluster.door import GENERATIONS
from benchmarks.cluster.load import BODY, Load, load_on
from benchmarks.cluster.stage import DENOISERS, Outcome, Stage

# the fewest and the most of each
_BOUNDS = {"denoiser": (DENOISERS, DENOISERS + 1), "vae_decoder": (1, 2)}
_DRAWING, _DECODING = 8, 12
_LONG, _SHORT = {**BODY, "steps": 50}, {**BODY, "steps": 4}


@dataclass(slots=True)
class _Watch:
    """How long it took until there were so many replicas."""

    application: Application
    told: list[str] = field(default_factory=list)

    def until(self, name: str, count: int) -> None:
        began = time.monotonic()
        self.application.wait(lambda: len(self.application.pids(name)) == count)
        self.told.append(f"{name} {count} after {time.monotonic() - began:.0f} s")


def autoscaling(stage: Stage) -> Outcome:
    """Denoisers come under waiting work and decoders under calls, and go when there is no more; no request is lost."""
    others, denoisers = stage.others(*_BOUNDS), stage.application.pids("denoiser")
    door, watch = stage.door(), _Watch(stage.application)
    [kept] = door.post(GENERATIONS, {**BODY, "store_latents": True}).json()["data"]
    with _bounds(stage.application), load_on(door, 1, body=_SHORT) as light:
        with load_on(door, _DRAWING, body=_LONG) as heavy:
            watch.until("denoiser", DENOISERS + 1)
        watch.until("denoiser", DENOISERS)
        with load_on(door, _DECODING, f"/v1/latents/{kept['latents']}/decode", {}) as decodes:
            watch.until("vae_decoder", 2)
        watch.until("vae_decoder", 1)
    touched = sorted({name for name, _ in others - stage.others(*_BOUNDS)})
    alone = f"replaced besides: {', '.join(touched)}" if touched else "no other replica was touched"
    # one of those that were there before is enough: which of three goes is Serve's choice
    stayed = bool(denoisers & stage.application.pids("denoiser"))
    loads: dict[str, Load] = {"with little to do": light, "long": heavy, "decoding": decodes}
    said = ". ".join(f"{name}: {load}" for name, load in loads.items())
    held = stayed and not touched and not any(load.failed for load in loads.values())
    return Outcome(held, f"{', '.join(watch.told)}; {alone}. {said}")


@contextmanager
def _bounds(application: Application) -> Iterator[None]:
    """A block in which both may scale; afterwards there are as many as before."""
    for name, (fewest, most) in _BOUNDS.items():
        application.bound(name, fewest, most)
    try:
        application.deploy()
        yield
    finally:
        for name, (fewest, _) in _BOUNDS.items():
            application.bound(name, fewest, fewest)
        application.deploy()
