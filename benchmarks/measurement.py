"""The whole measurement: a server, the chain in this process and the bare sessions, in turn."""

import io
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from benchmarks.access_log import DEPLOYMENTS, read_durations
from benchmarks.bare import BareSessions
from benchmarks.effort import Effort
from benchmarks.errors import BenchmarkError
from benchmarks.in_process import InProcess
from benchmarks.memory import MemoryPeaks, MemorySampler, summarise
from benchmarks.processes import ProcessMemory, own_memory
from benchmarks.served import Answer, Client, Load
from benchmarks.server import Server, serving
from benchmarks.stopwatch import StageTimes
from benchmarks.task import Task

_WARM_UPS = 2
_LOAD_WAVES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedTimes:
    """Milliseconds of one request: at the client, and in deployments by Serve's own logs.

    The graph's time holds those of the three stages; what the client waits beyond it is HTTP, proxy and ingress.
    """

    whole_ms: float
    graph_ms: float
    text_encoder_ms: float
    denoiser_ms: float
    vae_decoder_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """Every sample as it was taken; sample k of each path is from round k.

    `own_memory` is that of this process, which has the sessions twice: bare, and in `TextToImage`.
    """

    bare: tuple[StageTimes, ...]
    in_process: tuple[StageTimes, ...]
    served: tuple[ServedTimes, ...]
    ready_s: float
    first_picture_s: float
    load: Load
    memory: MemoryPeaks
    own_memory: ProcessMemory


def measure(task: Task, effort: Effort, say: Callable[[str], None]) -> Measurement:
    """Measure everything in one run; `say` is told what comes next.

    Raises:
        BenchmarkError: the server did not start, did not answer, or drew another picture.
        ComponentError: a component lacks what a picture needs.
        RuntimeFault: a session could not be opened or run.
    """
    say("starting the server")
    with serving(task.bundle) as server, Client(server.url, task.request) as client:
        first = client.draw()
        first_picture_s = time.perf_counter() - server.started_s
        bare, chain = BareSessions(task), InProcess(task)
        for _ in range(_WARM_UPS):
            bare.draw()
            _, image = chain.draw()
            client.draw()
        if not _equal(first.picture, image):
            raise BenchmarkError("the served picture is not that of TextToImage: their times cannot be compared")
        samples = []
        for number in range(effort.rounds):
            say(f"round {number + 1} of {effort.rounds}")
            samples.append((bare.draw(), chain.draw()[0], client.draw()))
        say(f"{effort.at_once} requests at once")
        load = client.load(effort.at_once, effort.at_once * _LOAD_WAVES)
        # apart from the timed load: reading the memory of twenty processes takes time of its own
        with MemorySampler(server.pid) as sampler:
            client.load(effort.at_once, effort.at_once * _LOAD_WAVES)
        bare_times, chain_times, answers = zip(*samples, strict=True)
        return Measurement(
            bare=bare_times,
            in_process=chain_times,
            served=_served_times(server, answers),
            ready_s=server.ready_s,
            first_picture_s=first_picture_s,
            load=load,
            memory=summarise(sampler.samples),
            own_memory=own_memory(),
        )


def _served_times(server: Server, answers: tuple[Answer, ...]) -> tuple[ServedTimes, ...]:
    durations = read_durations(server.logs, [answer.request for answer in answers])
    return tuple(
        ServedTimes(
            whole_ms=answer.whole_ms,
            **{name: durations[answer.request][deployment] for name, deployment in DEPLOYMENTS.items()},
        )
        for answer in answers
    )


def _equal(picture: bytes, image: Image.Image) -> bool:
    return np.array_equal(np.asarray(Image.open(io.BytesIO(picture))), np.asarray(image))
