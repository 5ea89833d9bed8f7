"""A denoiser's replica without Ray, and the same denoiser behind a plain queue: what the mixed load is offered to."""

import asyncio
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, aclosing, nullcontext
from dataclasses import replace
from types import TracebackType
from typing import Protocol, Self

import numpy as np

from components.contract import Contract, Kind
from components.messages import EncodedText, FloatArray, ImageRequest
from components.reference import ComponentRef
from pipeline.denoiser import Denoiser
from pipeline.jobs import denoise_jobs
from pipeline.request import RequestRules
from registry.settings import RegistrySettings
from services.denoiser import DenoiserDeployment, DenoiserSettings
from services.messages import Terms, WalkOrder, Worked
from services.metrics.denoiser import DenoiserMetrics
from services.settings import ChainArgs
from services.stage_args import DenoiserArgs
from services.stage_host import StageHost
from services.step_loop import StepLoop
from services.timelines.spans import Span

_PIN = ComponentRef(name=f"bench.{Kind.DENOISER}", version=1, sha256="0" * 64)
# the plain queue refuses nothing, so neither does the other
_NO_BOUND = 2**62
# no text encoder worked on it
_NO_WORK = Span("encode", 0.0, 0.0)


class System(Protocol):
    """What draws latents for any number of callers at once, in whatever order it likes."""

    async def draw(self, request: ImageRequest, encoded: EncodedText) -> FloatArray:
        """The latents of a request for one picture."""


class StartTally(DenoiserMetrics):
    """A replica's metrics, and besides how many runs each walk let pass before its first, by whether it found room."""

    def __init__(self) -> None:
        super().__init__()
        self.runs_waited: dict[bool, Counter[int]] = {True: Counter(), False: Counter()}

    def began(self, pin: ComponentRef, seconds: float, runs: int, found_free_row: bool) -> None:
        """Count the start of a walk, too."""
        super().began(pin, seconds, runs, found_free_row)
        self.runs_waited[found_free_row][runs] += 1


class Replica(DenoiserDeployment):
    """The deployment's own code with the server's own limits, but for how much may wait; one event loop uses it."""

    def __init__(self, stage: Denoiser) -> None:
        args = DenoiserArgs()
        settings = DenoiserSettings(
            registry=RegistrySettings(),
            args=args,
            rules=RequestRules(),
        )
        self.tally = StartTally()
        self._host = _OpenHost(stage, settings)
        self._loop = StepLoop(replace(settings.limits(stage.contract), queued=_NO_BOUND), self.tally, self._host.ran)

    async def draw(self, request: ImageRequest, encoded: EncodedText) -> FloatArray:
        """The latents of a request for one picture, from runs that it shares with the others."""
        order = WalkOrder(
            order=uuid.uuid4().hex,
            pin=_PIN,
            request=request,
            terms=Terms(),
            report_every=ChainArgs().snapshot_every,
        )
        async with aclosing(self.walk(order, Worked(encoded, _NO_WORK))) as reports:  # type: ignore[type-var]  # a generator
            async for report in reports:
                if report.latents is not None:
                    return report.latents
        raise AssertionError("the last report holds the latents")


class _OpenHost(StageHost[Denoiser]):
    """A host whose one version is open already."""

    def __init__(self, stage: Denoiser, settings: DenoiserSettings) -> None:
        super().__init__(Kind.DENOISER, Denoiser, Denoiser.warm_up, settings)
        self._stage = stage

    def using(self, _pin: ComponentRef) -> AbstractAsyncContextManager[Denoiser]:
        return nullcontext(self._stage)


class FirstCome:
    """The same denoiser behind a queue: whole pictures one after another, in the order in which they came."""

    def __init__(self, stage: Denoiser) -> None:
        self._stage = stage
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="first_come")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.shutdown(cancel_futures=True)

    async def draw(self, request: ImageRequest, encoded: EncodedText) -> FloatArray:
        """The latents of a request for one picture, once all that came before it are done."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._denoise, request, encoded)

    def _denoise(self, request: ImageRequest, encoded: EncodedText) -> FloatArray:
        [job] = denoise_jobs(request, encoded, self._stage.contract)
        return self._stage.denoise(job)


def made_up_text(contract: Contract, request: ImageRequest) -> EncodedText:
    """Conditioning of a request's texts in a denoiser's shapes: which numbers are in it changes nothing in the time."""
    rng = np.random.default_rng(0)
    texts = len(request.texts)
    return EncodedText(
        {
            array.name: rng.standard_normal(
                (texts, array.width) if array.tokens is None else (texts, array.tokens, array.width), np.float32
            )
            for array in contract.conditioning
        },
        (False,) * texts,
    )
