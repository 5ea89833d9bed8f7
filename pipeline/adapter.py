"""The adapter's stage: a control picture to features that the denoiser adds in each evaluation, made once a request."""

import numpy as np
from PIL import Image

from components.contract import Kind
from components.folder import ComponentFolder
from components.messages import Arrays, Pixels
from pipeline.errors import refuse
from pipeline.planes import unit_planes
from pipeline.stage import Interface, latent_space, open_session
from runtime.settings import SessionSettings

_INTERFACE = Interface(Kind.ADAPTER, frozenset({"control_image"}), frozenset())
# what an adapter of one channel sees, in Pillow's words
_GREY = "L"


class Adapter:
    """Turns 8-bit control pictures into features; usable from any number of threads at once."""

    def __init__(self, folder: ComponentFolder, settings: SessionSettings) -> None:
        """Open the component.

        Raises:
            ComponentError: it is no adapter.
            RuntimeFault: as `Session.open`.
        """
        self._session = open_session(folder, settings, _INTERFACE)
        self.space = latent_space(self._session)
        self.contract = self._session.contract
        self.provider = self._session.provider

    def features(self, pixels: Pixels) -> Arrays:
        """Features [1, ...] of pixels [1, H, W, 3], 0..255, by the names of the denoiser's inputs.

        An adapter of one channel sees the luminance.

        Raises:
            RequestError: the pixels are not such an array, or a side is no multiple of the latent space's downscale.
            RuntimeFault: the session could not run.
        """
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[0] != 1 or pixels.shape[3] != 3:
            raise refuse("controls", f"{pixels.dtype} {list(pixels.shape)}", "uint8 [1, height, width, 3]")
        if any(side == 0 or side % self.space.downscale for side in pixels.shape[1:3]):
            size = f"{pixels.shape[2]}x{pixels.shape[1]}"
            raise refuse("controls", size, f"of sides that are multiples of {self.space.downscale}")
        (taken,) = self.contract.inputs
        seen = pixels
        if taken.shape[1] == 1:
            seen = np.asarray(Image.fromarray(pixels[0]).convert(_GREY))[np.newaxis, :, :, np.newaxis]
        return self._session.run({"control_image": unit_planes(seen)})
