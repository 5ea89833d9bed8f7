"""Replicas that come with the work and go with it, by the policies of the overlay."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from benchmarks.cluster.application import overlays_bounds
from benchmarks.cluster.door import GENERATIONS
from benchmarks.cluster.load import BODY, load_on
from benchmarks.cluster.stage import DENOISERS, Outcome, Stage

_CLIENTS = 12
_LONG, _SHORT = {**BODY, "steps": 40}, {**BODY, "steps": 4}
_MOST_DENOISERS, _MOST_DECODERS = 3, 3
# of the overlay's minutes; Serve asks replicas each ten seconds, and takes a mean over thirty
_HASTE = {"upscale_delay_s": 1, "downscale_delay_s": 4, "metrics_interval_s": 1, "look_back_period_s": 3}
_TARGET_S = 1.0


def autoscaling(stage: Stage) -> Outcome:
    """Denoisers come under waiting work and decoders under calls, and both go when there is no more; none is lost."""
    denoisers = lambda: len(stage.application.pids("denoiser"))  # noqa: E731
    decoders = lambda: len(stage.application.pids("vae_decoder"))  # noqa: E731
    took: list[str] = []

    def until(what: str, count: Callable[[], int], wanted: int) -> None:
        began = time.monotonic()
        stage.application.wait(lambda: count() == wanted)
        took.append(f"{wanted} {what} after {time.monotonic() - began:.0f} s")

    others = stage.others("denoiser", "vae_decoder")
    door = stage.door()
    [kept] = door.post(GENERATIONS, {**BODY, "store_latents": True}).json()["data"]
    with _bounds(stage), load_on(door, 1, body=_SHORT) as light:
        with load_on(door, _CLIENTS, body=_LONG) as heavy:
            until("denoisers", denoisers, _MOST_DENOISERS)
        with load_on(door, _CLIENTS, f"/v1/latents/{kept['latents']}/decode", {}) as decodes:
            until("decoders", decoders, _MOST_DECODERS)
        until("denoisers", denoisers, DENOISERS)
        until("decoders", decoders, 1)
    loads = (light, heavy, decodes)
    failed = [each for load in loads for each in load.failed]
    same = others == stage.others("denoiser", "vae_decoder")
    said = ", ".join(str(len(load.answered)) for load in loads)
    lost = f"{len(failed)} failed, the first: {failed[0][1]}" if failed else "none failed"
    return Outcome(same and not failed, f"{', '.join(took)}; light, heavy and decoding requests {said}, {lost}")


@contextmanager
def _bounds(stage: Stage) -> Iterator[None]:
    """A block in which both have the overlay's policies, within bounds for this machine; afterwards they are fixed."""
    denoiser, decoder = (stage.application.deployment(name) for name in ("denoiser", "vae_decoder"))
    fixed = [(entry, entry.pop("num_replicas")) for entry in (denoiser, decoder)]
    policy = overlays_bounds("denoiser")["policy"]
    denoiser["autoscaling_config"] = {
        **overlays_bounds("denoiser"),
        **_HASTE,
        "min_replicas": DENOISERS,
        "max_replicas": _MOST_DENOISERS,
        "policy": {**policy, "policy_kwargs": {"wait_s": _TARGET_S}},
    }
    decoder["autoscaling_config"] = {
        **overlays_bounds("vae_decoder"),
        **_HASTE,
        "min_replicas": 1,
        "max_replicas": _MOST_DECODERS,
    }
    # its replicas tell of their work only where they began with bounds: another option exchanges them
    denoiser["ray_actor_options"]["runtime_env"]["env_vars"]["LATENTWORKS_DENOISER__RUN_ROWS"] = "8"
    try:
        stage.application.deploy()
        yield
    finally:
        for entry, count in fixed:
            del entry["autoscaling_config"]
            entry["num_replicas"] = count
        stage.application.deploy()
