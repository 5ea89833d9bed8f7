"""The VAE decoder's deployment: latents to pixels."""

from collections.abc import Collection, Sequence

from ray.serve.handle import DeploymentHandle

from components.contract import Kind
from components.messages import FloatArray, Pixels, Tiling
from components.reference import ComponentRef
from pipeline.vae_decoder import DecodedBatch, VaeDecoder
from runtime.feeds import zero_feeds
from services.errors import NonFiniteImageError
from services.messages import ReplicaReport, Worked
from services.stage_host import StageHost, StageSettings
from services.timelines.spans import Stopwatch


def _probe(stage: VaeDecoder) -> None:
    # whatever it gives: a replica that can run a version which makes no pictures is a sound one
    stage.decode_each(zero_feeds(stage.contract)["latents"])


class VaeDecoderDeployment:
    """Decodes the latents of one picture at a time."""

    async def __init__(self, rollout: DeploymentHandle, settings: StageSettings) -> None:  # type: ignore[misc]  # Serve awaits it
        self._host = StageHost(Kind.VAE_DECODER, VaeDecoder, _probe, settings.own(Kind.VAE_DECODER))
        await self._host.start(await rollout.record.remote())

    async def decode(self, pin: ComponentRef, latents: FloatArray, tiling: Tiling | None = None) -> Worked[Pixels]:
        """Decode one picture's latents [1, channels, height, width] to pixels [height, width, 3] by a pinned version.

        With `tiling` the network sees them in tiles.

        Raises:
            NonFiniteImageError: the version gave something that is no picture; nothing is wrong with the replica.
        """

        def work(stage: VaeDecoder) -> Worked[DecodedBatch]:
            watch = Stopwatch()
            batch = stage.decode_each(latents, tiling)
            return Worked(batch, self._host.span("decode", watch, pin, rows=len(latents)))

        worked = await self._host.run(pin, work)
        [fault] = worked.made.faults
        if fault is not None:
            raise NonFiniteImageError(f"{pin} gave {fault}", pin)
        return Worked(worked.made.pixels[0], worked.span, worked.present_s)

    async def knock(self) -> None:
        """Answer: whoever knocks wants a replica to run."""

    async def hold(self, wanted: Sequence[ComponentRef], replaced: Collection[str]) -> ReplicaReport:
        """Keep versions open, the most important first, and say how far that is."""
        return self._host.hold(wanted, replaced)

    async def check_health(self) -> None:
        """Tell Serve whether this replica can still work."""
        await self._host.check_health()
