"""The VAE encoder's deployment: pixels to latents."""

from collections.abc import Collection, Sequence

import numpy as np
from ray.serve.handle import DeploymentHandle

from components.contract import Kind
from components.messages import LatentDistribution, Mask, Pixels, Tiling
from components.reference import ComponentRef
from pipeline.vae_encoder import VaeEncoder
from runtime.feeds import zero_feeds
from services.messages import ReplicaReport, Worked
from services.stage_host import StageHost, StageSettings
from services.timelines.spans import Stopwatch


def _probe(stage: VaeEncoder) -> None:
    height, width = zero_feeds(stage.contract)["pixels"].shape[2:]
    stage.encode(np.zeros((1, height, width, 3), np.uint8))


class VaeEncoderDeployment:
    """Encodes the pixels of one picture at a time."""

    async def __init__(self, rollout: DeploymentHandle, settings: StageSettings) -> None:  # type: ignore[misc]  # Serve awaits it
        self._host = StageHost(Kind.VAE_ENCODER, VaeEncoder, _probe, settings.own(Kind.VAE_ENCODER))
        await self._host.start(await rollout.record.remote())

    async def encode(
        self, pin: ComponentRef, pixels: Pixels, tiling: Tiling | None = None, hidden: Mask | None = None
    ) -> Worked[LatentDistribution]:
        """Encode pixels [batch, H, W, 3], 0..255, in the VAE's own scale, by a pinned version.

        With `tiling` the network sees them in tiles; with `hidden` there are as many on top, as in `VaeEncoder.encode`.
        """

        def work(stage: VaeEncoder) -> Worked[LatentDistribution]:
            watch = Stopwatch()
            encoded = stage.encode(pixels, tiling, hidden)
            return Worked(encoded, self._host.span("encode", watch, pin, rows=len(encoded.mean)))

        return await self._host.run(pin, work)

    async def knock(self) -> None:
        """Answer: whoever knocks wants a replica to run."""

    async def hold(self, wanted: Sequence[ComponentRef], replaced: Collection[str]) -> ReplicaReport:
        """Keep versions open, the most important first, and say how far that is."""
        return self._host.hold(wanted, replaced)

    async def check_health(self) -> None:
        """Tell Serve whether this replica can still work."""
        await self._host.check_health()
