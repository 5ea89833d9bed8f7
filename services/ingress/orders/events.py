"""What the events of a streamed answer say: steps, previews of unfinished pictures, the pictures themselves."""

import asyncio
import base64
import json
from collections import Counter
from dataclasses import dataclass, field
from time import time
from typing import Any

import numpy as np
from PIL import Image

from components.messages import Pixels
from pipeline.overlays import laid
from services.encoding import encode_picture
from services.ingress.orders.fields import Streaming
from services.ingress.wire.answers import fallback_of, pin_of, size_of, timings_of, usage_of
from services.ingress.wire.schemas import CompletedEvent, EventPrefix, PartialImageEvent, ProgressEvent, QueuedEvent
from services.messages import Drawn, Order, Progress, Queued, ToldQuality


@dataclass(slots=True)
class Events:
    """The events of one order, whose types begin with `prefix`; `quality` is what they say of that."""

    order: Order
    streaming: Streaming
    quality: ToldQuality | None
    prefix: EventPrefix = "image_generation"
    _previews: Counter[int] = field(default_factory=Counter)

    async def of_step(self, progress: Progress) -> list[ProgressEvent | PartialImageEvent]:
        """The events of a picture's step: none, one or two."""
        told: list[ProgressEvent | PartialImageEvent] = []
        if self.streaming.progress:
            told.append(self.step(progress))
        # a walk that went on elsewhere may give more of them
        index = self._previews[progress.image]
        if progress.preview is not None and index < self.streaming.partial_images:
            self._previews[progress.image] += 1
            told.append(await self.partial(progress, progress.preview, index))
        return told

    def of_queued(self, queued: Queued) -> list[QueuedEvent]:
        """The event of a picture's place in the queue, where steps are told."""
        if not self.streaming.progress:
            return []
        type_ = f"{self.prefix}.queued"
        return [QueuedEvent(type=type_, created_at=int(time()), image_index=queued.image, position=queued.position)]

    def step(self, progress: Progress) -> ProgressEvent:
        """The event of a step alone."""
        return ProgressEvent(
            type=f"{self.prefix}.progress",
            created_at=int(time()),
            image_index=progress.image,
            step=progress.step,
            steps=progress.steps,
        )

    async def partial(self, progress: Progress, preview: Pixels, index: int) -> PartialImageEvent:
        """The event of a step's preview, the `index`-th of its picture."""
        data = await asyncio.to_thread(unfinished, preview, self.order, progress)
        said = self._picture("partial_image", data, progress.image)
        return PartialImageEvent(**said, partial_image_index=index)

    def of_pictures(self, drawn: Drawn) -> list[CompletedEvent]:
        """The events of all finished pictures, in their order."""
        told = []
        for index, picture in enumerate(drawn.pictures):
            # the text counts once, so that the usage of all events adds up to that of the request
            usage = usage_of(self.order, 0 if index else drawn.text_tokens, 1)
            assert usage is not None, "an order to be drawn has the denoiser's contract"
            fallback = fallback_of(self.order, picture)
            said = self._picture("completed", picture.data, index)
            completed = CompletedEvent(
                **said,
                usage=usage,
                seed=picture.seed,
                subseed=picture.subseed,
                fallback=None if fallback is None else pin_of(fallback),
                latents=picture.latents,
                timings=timings_of(picture),
                prompt_truncated=drawn.prompt_truncated,
                negative_prompt_truncated=drawn.negative_prompt_truncated,
            )
            told.append(completed)
        return told

    def _picture(self, kind: str, data: bytes, image: int) -> dict[str, Any]:
        return {
            "type": f"{self.prefix}.{kind}",
            "b64_json": base64.b64encode(data).decode(),
            "created_at": int(time()),
            "size": size_of(self.order),
            "quality": "auto" if self.quality is None else self.quality,
            "output_format": self.order.encoding.format,
            "image_index": image,
        }


def preview_every(steps: int, partial_images: int) -> int:
    """After how many steps each a preview is due, so that so many of them are spread evenly; 0 for none.

    All of them come before the last step, which gives the picture itself; a walk of too few steps for that gives one
    after each step but the last.
    """
    if partial_images == 0:
        return 0
    return max(1, min(round(steps / (partial_images + 1)), (steps - 1) // partial_images))


def unfinished(preview: Pixels, order: Order, progress: Progress) -> bytes:
    """The file of a preview [height, width, 3], in the size and format of the order's pictures."""
    size = (order.request.width, order.request.height)
    enlarged = np.asarray(Image.fromarray(preview).resize(size, Image.Resampling.BICUBIC))
    if order.source is not None and order.source.overlay is not None:
        enlarged = laid(order.source.overlay, enlarged)
    # no story: it would be that of another picture
    said = {"unfinished": {"step": progress.step, "steps": progress.steps}}
    return encode_picture(enlarged, order.encoding, json.dumps(said))
