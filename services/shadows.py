"""Decoding live latents once more by a candidate, beside the traffic and without a trace in it."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass

from ray.serve.handle import DeploymentHandle

from components.messages import FloatArray, Tiling
from components.reference import ComponentRef
from services.comparison import psnr_db
from services.deadlines import Deadline
from services.decoding import Made, PictureDecoder
from services.errors import NonFiniteImageError, ServingError
from services.messages import ShadowResult
from services.metrics.graph import GraphMetrics

_log = logging.getLogger("ray.serve")

# what an answer takes to leave this process, several times over
_AFTER_S = 0.05


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """A picture that was answered, and the latents [1, channels, height, width] that it was made of, in which tiles."""

    latents: FloatArray
    tiling: Tiling | None
    made: Made


class Shadows:
    """Keeps at most so many answers' pictures under way; what is over is dropped. One event loop uses it."""

    def __init__(self, decoder: PictureDecoder, rollout: DeploymentHandle, metrics: GraphMetrics, most: int) -> None:
        """Tell `rollout` of each picture; with `most` 0 all are dropped."""
        self._decoder = decoder
        self._rollout = rollout
        self._metrics = metrics
        self._most = most
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def under_way(self) -> int:
        """The answers whose pictures are being decoded once more."""
        return len(self._tasks)

    def start(self, pin: ComponentRef, answered: Sequence[Shown]) -> None:
        """Decode the pictures of one answer by a candidate, one after the other, and return at once."""
        others = [shown for shown in answered if shown.made.decoder != pin]
        if not others:
            return
        if len(self._tasks) >= self._most:
            self._metrics.shadowed(pin, "dropped", len(others))
            return
        task = asyncio.create_task(self._follow(pin, others))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def close(self) -> None:
        """Give up what is under way."""
        for task in self._tasks:
            task.cancel()

    async def _follow(self, pin: ComponentRef, answered: Sequence[Shown]) -> None:
        await asyncio.sleep(_AFTER_S)
        for shown in answered:
            result = await self._compare(pin, shown)
            self._metrics.shadowed(pin, _outcome(result))
            try:
                await self._rollout.shadowed.remote(result)
            except Exception as error:  # noqa: BLE001 - nobody waits for it
                _log.warning("%s: what a shadow showed was lost: %s", pin, type(error).__name__)

    async def _compare(self, pin: ComponentRef, shown: Shown) -> ShadowResult:
        live, live_seconds = shown.made.decoder, shown.made.seconds
        try:
            # once: a candidate that stops replicas must not stop another
            made = await self._decoder.once(shown.latents, shown.tiling, pin, Deadline())
            psnr = await asyncio.to_thread(psnr_db, shown.made.pixels, made.pixels)
        except NonFiniteImageError as error:
            return ShadowResult(pin=pin, live=live, live_seconds=live_seconds, finite=False, failed=error.message)
        except Exception as error:  # noqa: BLE001 - whatever goes wrong is the candidate's result
            reason = error.message if isinstance(error, ServingError) else type(error).__name__
            return ShadowResult(pin=pin, live=live, live_seconds=live_seconds, failed=reason)
        return ShadowResult(pin=pin, live=live, psnr_db=psnr, seconds=made.seconds, live_seconds=live_seconds)


def _outcome(result: ShadowResult) -> str:
    if result.failed is None:
        return "compared"
    return "failed" if result.finite else "no_picture"
