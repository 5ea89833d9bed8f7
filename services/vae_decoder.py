"""The VAE decoder's deployment: latents to pixels."""

from ray.serve.handle import DeploymentHandle

from components.contract import Kind
from components.messages import FloatArray, Pixels
from components.reference import ComponentRef
from pipeline.vae_decoder import VaeDecoder
from runtime.feeds import zero_feeds
from services.stage_host import StageHost, StageSettings


def _probe(stage: VaeDecoder) -> None:
    stage.decode(zero_feeds(stage.contract)["latents"])


class VaeDecoderDeployment:
    """Decodes the latents of one picture at a time."""

    async def __init__(self, catalog: DeploymentHandle, settings: StageSettings) -> None:  # type: ignore[misc]  # Serve awaits it
        self._host = StageHost(Kind.VAE_DECODER, VaeDecoder, _probe, settings)
        await self._host.start(catalog)

    async def decode(self, pin: ComponentRef, latents: FloatArray) -> Pixels:
        """Decode latents [batch, channels, height, width] to pixels [batch, H, W, 3], 0..255, by a pinned version."""
        return await self._host.run(pin, lambda stage: stage.decode(latents))

    async def check_health(self) -> None:
        """Tell Serve whether this replica can still work."""
        await self._host.check_health()
