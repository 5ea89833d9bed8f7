"""What denoising costs outside `session.run`, in the replica's own step loop."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from benchmarks.outside_figures import Outside, Sample, sample_of, summarise
from benchmarks.replica import Replica, made_up_text
from benchmarks.timed_runs import TimedDenoiser
from components.folder import ComponentFolder
from components.messages import EncodedText, ImageRequest
from services.stage_args import DenoiserArgs


@dataclass(frozen=True, slots=True)
class Geometry:
    """A denoiser, a picture of it and the share that it is held to.

    `samples` says how often to walk, by the number of walks that share the runs.
    """

    name: str
    folder: ComponentFolder
    request: ImageRequest
    samples: dict[int, int]
    limit: float


def measure_outside(geometry: Geometry, say: Callable[[str], None]) -> tuple[Outside, ...]:
    """Walk pictures of a geometry, guided, and see what the runs leave of the time; `say` is told what comes next.

    Raises:
        ComponentError: the component is no denoiser, or one that cannot be walked.
        RuntimeFault: a session could not be opened.
        ServingError: a run failed.
    """
    stage = TimedDenoiser(geometry.folder, DenoiserArgs().session)
    return asyncio.run(_measure(geometry, stage, say))


async def _measure(geometry: Geometry, stage: TimedDenoiser, say: Callable[[str], None]) -> tuple[Outside, ...]:
    replica = Replica(stage)
    encoded = made_up_text(stage.contract, geometry.request)
    found = []
    for walks, samples in geometry.samples.items():
        say(f"outside session.run: {geometry.name}, {walks} at once")
        # the first is a warm-up
        walked = [await _sample(replica, stage, geometry.request, encoded, walks) for _ in range(samples + 1)]
        found.append(summarise(geometry.name, walks, walked[1:], geometry.limit))
    return tuple(found)


async def _sample(
    replica: Replica, stage: TimedDenoiser, request: ImageRequest, encoded: EncodedText, walks: int
) -> Sample:
    stage.runs.clear()
    requests = [replace(request, seed=request.seed + index) for index in range(walks)]
    started = time.perf_counter()
    await asyncio.gather(*(replica.draw(one, encoded) for one in requests))
    return sample_of((time.perf_counter() - started) * 1000, stage.runs)
