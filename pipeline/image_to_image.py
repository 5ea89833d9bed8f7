"""The whole chain from a picture: a prompt changes it, all of it or what a mask says."""

from collections.abc import Sequence
from pathlib import Path
from typing import Unpack

from PIL import Image

from components.contract import Kind
from components.messages import EncodedImage, FloatArray
from pipeline.bundle import open_bundle, those_there
from pipeline.controls import ControlBy
from pipeline.request import RequestFields, RequestRules
from pipeline.source_pictures import edit_mask, image_pixels, latent_mask, turned_size
from pipeline.text_to_image import Options, TextToImage
from pipeline.vae_encoder import VaeEncoder
from runtime.settings import SessionSettings

_KINDS = (Kind.TEXT_ENCODER, Kind.DENOISER, Kind.VAE_DECODER, Kind.VAE_ENCODER)


class EditOptions(Options, total=False):
    """What `ImageToImage.generate` takes beside prompt, picture and mask, as in `RequestFields`."""

    strength: float


class ImageToImage:
    """`TextToImage` with a VAE encoder before it; usable from any number of threads at once."""

    def __init__(self, chain: TextToImage, encoder: VaeEncoder) -> None:
        """Chain stages that fit together; `load` checks that they do."""
        self._chain = chain
        self._encoder = encoder

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
        chosen = SessionSettings() if settings is None else settings
        return cls(TextToImage.of(folders, chosen, rules), VaeEncoder(folders[Kind.VAE_ENCODER], chosen))

    def generate(
        self,
        prompt: str,
        image: Image.Image,
        mask: Image.Image | None = None,
        *,
        noise: FloatArray | None = None,
        controls: Sequence[ControlBy] = (),
        **options: Unpack[EditOptions],
    ) -> Image.Image:
        """Draw one picture from `image`, anew where `mask` says so (`edit_mask`), and everywhere without one.

        Both are resized to the size asked for (`image_pixels`), if none is as `picture_size` says. Outside the mask the
        picture is what the VAE makes of it, or what a denoiser that sees the mask does. Equal to
        StableDiffusionImg2ImgPipeline and, with a mask, StableDiffusionInpaintPipeline in diffusers, defaults of
        strength included: 0.8, with a mask 1. The same arguments give the same bytes; `noise`, `controls`, seed and
        subseed as in `TextToImage.generate`.

        Raises:
            RequestError: an argument is outside its limits; nothing has run.
            RuntimeFault: a session could not run.
        """
        options.setdefault("seed", 0)
        options.setdefault("subseed", 0)
        fields = RequestFields(prompt=prompt, image=turned_size(image), mask=mask is not None, **options)
        request = self._chain.check(fields)
        size, most = (request.width, request.height), self._chain.rules.max_source_pixels
        pixels = image_pixels(image, *size, most)
        anew = None if mask is None else edit_mask(mask, *size, most)
        latents = self._encoder.encode(pixels, request.tiling, anew if self._chain.contract.sees_mask else None)
        within = None if anew is None else latent_mask(anew, self._encoder.space.downscale)
        return self._chain.draw(request, noise, EncodedImage(latents, within), controls)
