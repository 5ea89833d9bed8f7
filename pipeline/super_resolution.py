"""The whole chain from a small picture to a large one, by a denoiser that sees the small one or its latents."""

from pathlib import Path
from typing import Unpack

import numpy as np
from PIL import Image

from components.contract import PARTS, Contract
from components.messages import EncodedImage, FloatArray, ImageRequest
from pipeline.bundle import open_bundle
from pipeline.edit_sources import edit_source
from pipeline.errors import RequestError, refuse
from pipeline.picture_size import source_size
from pipeline.request import RequestFields, RequestRules
from pipeline.source_pictures import turned_size
from pipeline.text_to_image import Options, TextToImage
from runtime.settings import SessionSettings


class SuperResolution:
    """`TextToImage` of a bundle that enlarges; usable from any number of threads at once."""

    def __init__(self, chain: TextToImage) -> None:
        """Chain stages that fit together; `load` checks that they do."""
        self._chain = chain

    @classmethod
    def load(
        cls, bundle: Path | str, settings: SessionSettings | None = None, rules: RequestRules | None = None
    ) -> "SuperResolution":
        """Open a bundle folder, as `TextToImage.load` does.

        Raises:
            ComponentError: a component is missing or damaged, or they do not fit together.
            RuntimeFault: as `Session.open`.
        """
        return cls(TextToImage.of(open_bundle(Path(bundle), PARTS), settings, rules))

    def generate(
        self,
        prompt: str,
        image: Image.Image | FloatArray,
        *,
        noise: FloatArray | None = None,
        **options: Unpack[Options],
    ) -> Image.Image:
        """Draw `image` larger, as much as the denoiser does, or of the size asked for from as much of it as that takes.

        A denoiser of latents also takes those that another bundle's `begin` walked to the end, of the same latent space
        and in the denoiser's scale. Equal to StableDiffusionUpscalePipeline, and of latents to
        StableDiffusionLatentUpscalePipeline, in diffusers. The same arguments give the same bytes; `noise`, seed and
        subseed as in `TextToImage.generate`.

        Raises:
            RequestError: an argument is outside its limits, or the bundle enlarges nothing; nothing has run.
            RuntimeFault: a session could not run.
        """
        contract = self._chain.contract
        if not contract.enlarges:
            raise RequestError("image", "image: must be left out, as this model enlarges no picture")
        options.setdefault("seed", 0)
        options.setdefault("subseed", 0)
        size = turned_size(image) if isinstance(image, Image.Image) else _size_of(image, contract)
        request = self._chain.check(RequestFields(prompt=prompt, image=size, **options))
        seen = self._encoded(image, request) if isinstance(image, Image.Image) else _given(image, request, contract)
        return self._chain.draw(request, noise, seen)

    def _encoded(self, image: Image.Image, request: ImageRequest) -> EncodedImage:
        small = edit_source(image, None, request, self._chain.contract, self._chain.rules.max_source_pixels).pixels
        if self._chain.contract.sees_pixels:
            return EncodedImage(None, low_resolution=small)
        encoder = self._chain.vae_encoder
        assert encoder is not None, "it is among the folders"
        return EncodedImage(encoder.encode(small, request.tiling))


def _size_of(latents: FloatArray, contract: Contract) -> tuple[int, int]:
    """Width and height of the picture that latents are of, held to what the denoiser takes."""
    space = contract.latent_space
    assert space is not None, "a denoiser's contract has one"
    if contract.sees_pixels:
        raise RequestError("image", "image: must be a picture, as this model sees no latents")
    fits = latents.ndim == 4 and latents.shape[:2] == (1, space.channels) and latents.dtype == np.float32
    if not fits or 0 in latents.shape:
        raise refuse("image", f"{latents.dtype} {list(latents.shape)}", f"float32 [1, {space.channels}, height, width]")
    if not np.isfinite(latents).all():
        raise refuse("image", "latents that are not finite", "finite ones")
    return latents.shape[3] * space.downscale, latents.shape[2] * space.downscale


def _given(latents: FloatArray, request: ImageRequest, contract: Contract) -> EncodedImage:
    assert contract.latent_space is not None, "a denoiser's contract has one"
    width, height = (side // contract.latent_space.downscale for side in source_size(request, contract))
    if latents.shape[2:] != (height, width):
        raise refuse("image", f"latents {list(latents.shape[2:])}", f"of [{height}, {width}] for this size")
    return EncodedImage(None, latents=latents)
