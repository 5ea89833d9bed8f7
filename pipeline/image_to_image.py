"""The whole chain from a picture: a prompt changes it, all of it or what a mask says."""

from collections.abc import Sequence
from pathlib import Path
from typing import Unpack

import numpy as np
from PIL import Image

from components.contract import Kind
from components.messages import EncodedImage, FloatArray
from pipeline.bundle import open_bundle, those_there
from pipeline.controls import ControlBy
from pipeline.edit_sources import edit_source
from pipeline.errors import RequestError
from pipeline.overlays import laid
from pipeline.request import RequestFields, RequestRules
from pipeline.source_pictures import turned_size
from pipeline.text_to_image import Options, TextToImage
from runtime.settings import SessionSettings

_KINDS = (Kind.TEXT_ENCODER, Kind.DENOISER, Kind.VAE_DECODER, Kind.VAE_ENCODER)


class EditOptions(Options, total=False):
    """What `ImageToImage.generate` takes beside prompt, picture and mask, as in `RequestFields`."""

    strength: float
    mask_blur: float
    padding_mask_crop: int


class ImageToImage:
    """`TextToImage` with a VAE encoder before it; usable from any number of threads at once."""

    def __init__(self, chain: TextToImage) -> None:
        """Begin with the VAE's encoder of a chain, which has one; `load` checks that."""
        assert chain.vae_encoder is not None, "it is among the folders"
        self._chain = chain
        self._encoder = chain.vae_encoder

    @classmethod
    def load(
        cls, bundle: Path | str, settings: SessionSettings | None = None, rules: RequestRules | None = None
    ) -> "ImageToImage":
        """Open a bundle folder, as `TextToImage.load` does.

        Raises:
            ComponentError: a component is missing or damaged, or they do not fit together.
            RuntimeFault: as `Session.open`.
        """
        folders = open_bundle(Path(bundle), (*_KINDS, *those_there(Path(bundle), Kind.THIRD_TEXT_ENCODER)))
        return cls(TextToImage.of(folders, settings, rules))

    def generate(
        self,
        prompt: str,
        image: Image.Image,
        mask: Image.Image | None = None,
        *,
        depth: Image.Image | None = None,
        noise: FloatArray | None = None,
        controls: Sequence[ControlBy] = (),
        **options: Unpack[EditOptions],
    ) -> Image.Image:
        """Draw one picture from `image`, anew where `mask` says so (`edit_mask`), and everywhere without one.

        Both are resized to the size asked for (`image_pixels`), if none is as `picture_size` says. Outside the mask the
        picture is what the VAE makes of it, or what a denoiser that sees the mask does; but with `padding_mask_crop` it
        stays as it is, in its own size (`edit_source`). `depth` is for a denoiser that sees it (`depth_plane`). Equal
        to StableDiffusionImg2ImgPipeline, with a mask StableDiffusionInpaintPipeline and with depth
        StableDiffusionDepth2ImgPipeline in diffusers, defaults of strength included: 0.8, with a mask 1. The same
        arguments give the same bytes; `noise`, `controls`, seed and subseed as in `TextToImage.generate`.

        Raises:
            RequestError: an argument is outside its limits, or the bundle enlarges pictures; nothing has run.
            RuntimeFault: a session could not run.
        """
        if self._chain.contract.enlarges:
            raise RequestError("image", "image: is drawn larger by this model, which is what SuperResolution does")
        options.setdefault("seed", 0)
        options.setdefault("subseed", 0)
        fields = RequestFields(
            prompt=prompt, image=turned_size(image), mask=mask is not None, depth=depth is not None, **options
        )
        request = self._chain.check(fields)
        most = self._chain.rules.max_source_pixels
        source = edit_source(image, mask, request, self._chain.contract, most, depth=depth)
        latents = self._encoder.encode(source.pixels, request.tiling, source.hidden)
        seen = EncodedImage(latents, source.mask, depth=source.depth)
        drawn = self._chain.draw(request, noise, seen, controls)
        return drawn if source.overlay is None else Image.fromarray(laid(source.overlay, np.asarray(drawn)))
