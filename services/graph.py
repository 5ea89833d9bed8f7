"""The graph's deployment: chains the stages for each request."""

import asyncio
from dataclasses import replace

from ray.serve.handle import DeploymentHandle, DeploymentResponse

from components.contract import Kind
from components.messages import EncodedText, Pixels
from services.encoding import describe, encode_picture
from services.messages import Drawn, Order, Picture


class GraphDeployment:
    """Sends an order through the stages; what one gives goes to the next by reference, not through this process."""

    def __init__(
        self,
        text_encoder: DeploymentHandle,
        denoiser: DeploymentHandle,
        vae_decoder: DeploymentHandle,
        vae_encoder: DeploymentHandle,
    ) -> None:
        self._text_encoder = text_encoder
        self._denoiser = denoiser
        self._vae_decoder = vae_decoder
        self._vae_encoder = vae_encoder

    async def draw(self, order: Order) -> Drawn:
        """Draw all pictures of an order, each as `ImageRequest.picture` gives it alone."""
        request, pins = order.request, order.pins
        encoded = self._text_encoder.encode.remote(pins[Kind.TEXT_ENCODER], request.texts)
        singles = [replace(order, request=request.picture(image)) for image in range(request.n)]
        walks = [asyncio.create_task(self._picture(one, encoded)) for one in singles]
        try:
            pictures = await asyncio.gather(*walks)
        finally:
            # where one picture fails nobody will see the others
            for walk in walks:
                walk.cancel()
        texts: EncodedText = await encoded
        return Drawn(tuple(pictures), texts.truncated[0], any(texts.truncated[1:]))

    async def _picture(self, order: Order, encoded: DeploymentResponse) -> Picture:
        request, pins = order.request, order.pins
        latents = self._denoiser.denoise.remote(pins[Kind.DENOISER], request, encoded)
        pixels: Pixels = await self._vae_decoder.decode.remote(pins[Kind.VAE_DECODER], latents)
        metadata = describe(request, pins)
        data = await asyncio.to_thread(encode_picture, pixels[0], order.encoding, metadata)
        return Picture(data, request.seed, request.subseed)
