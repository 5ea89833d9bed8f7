"""The whole chain from a small picture to a large one, by a denoiser that sees the small one."""

from pathlib import Path
from typing import Unpack

from PIL import Image

from components.messages import EncodedImage, FloatArray
from pipeline.edit_sources import edit_source
from pipeline.errors import RequestError
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
        return cls(TextToImage.load(bundle, settings, rules))

    def generate(
        self, prompt: str, image: Image.Image, *, noise: FloatArray | None = None, **options: Unpack[Options]
    ) -> Image.Image:
        """Draw `image` larger, by the VAE's downscale, or of the size asked for from as much of it as that takes.

        Equal to StableDiffusionUpscalePipeline in diffusers. The same arguments give the same bytes; `noise`, seed and
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
        request = self._chain.check(RequestFields(prompt=prompt, image=turned_size(image), **options))
        source = edit_source(image, None, request, contract, self._chain.rules.max_source_pixels)
        return self._chain.draw(request, noise, EncodedImage(None, low_resolution=source.pixels))
