"""The VAE encoder's deployment: pixels to latents."""

from ray.serve.handle import DeploymentHandle

from components.contract import Kind
from components.messages import LatentDistribution, Pixels
from components.reference import ComponentRef
from pipeline.vae_encoder import VaeEncoder
from services.stage_host import StageHost, StageSettings


class VaeEncoderDeployment:
    """Encodes the pixels of one picture at a time."""

    async def __init__(self, catalog: DeploymentHandle, settings: StageSettings) -> None:  # type: ignore[misc]  # Serve awaits it
        self._host = StageHost(Kind.VAE_ENCODER, VaeEncoder, settings)
        await self._host.start(catalog)

    async def encode(self, pin: ComponentRef, pixels: Pixels) -> LatentDistribution:
        """Encode pixels [batch, H, W, 3], 0..255, in the VAE's own scale, by a pinned version."""
        return await self._host.run(pin, lambda stage: stage.encode(pixels))

    async def check_health(self) -> None:
        """Tell Serve whether this replica can still work."""
        self._host.check_health()
