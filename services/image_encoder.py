"""The image encoder's deployment: pictures to be like, to tokens that the denoiser looks at beside the text.

They are made once a request, as an adapter's features are.
"""

from collections.abc import Sequence

import numpy as np

from components.contract import Kind
from components.messages import Arrays, Pixels
from components.reference import ComponentRef
from pipeline.image_encoder import ImageEncoder
from services.messages import Worked
from services.stage_host import StageHost, StageSettings
from services.timelines.spans import Stopwatch


def _probe(stage: ImageEncoder) -> None:
    stage.tokens([np.zeros((1, stage.side, stage.side, 3), np.uint8)])


class ImageEncoderDeployment:
    """Encodes the pictures of one request; a version is opened when the first one needs it."""

    def __init__(self, settings: StageSettings) -> None:
        self._host = StageHost(Kind.IMAGE_ENCODER, ImageEncoder, _probe, settings.own(Kind.IMAGE_ENCODER))

    async def tokens(self, pin: ComponentRef, squares: Sequence[Pixels]) -> Worked[Arrays]:
        """Tokens of squares [1, side, side, 3], 0..255, by a pinned version, as `image_prompt_rows` takes them."""

        def work(stage: ImageEncoder) -> Worked[Arrays]:
            watch = Stopwatch()
            return Worked(stage.tokens(squares), self._host.span("encode", watch, pin, rows=len(squares)))

        return await self._host.run(pin, work)

    async def knock(self) -> None:
        """Answer: whoever knocks wants a replica to run."""

    async def check_health(self) -> None:
        """Tell Serve whether this replica can still work."""
        await self._host.check_health()
