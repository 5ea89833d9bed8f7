"""The VAE decoder's stage: latents to pixels."""

import numpy as np

from components.contract import Kind
from components.folder import ComponentFolder
from components.messages import FloatArray, Pixels
from diffusion.latents import from_model
from pipeline.stage import Interface, latent_space, open_session
from runtime.errors import RuntimeFault
from runtime.settings import SessionSettings

_INTERFACE = Interface(Kind.VAE_DECODER, frozenset({"latents"}), frozenset({"pixels"}))


class VaeDecoder:
    """Decodes latents to 8-bit pictures; usable from any number of threads at once."""

    def __init__(self, folder: ComponentFolder, settings: SessionSettings) -> None:
        """Open the component.

        Raises:
            ComponentError: it is no VAE decoder.
            RuntimeFault: as `Session.open`.
        """
        self._session = open_session(folder, settings, _INTERFACE)
        self.space = latent_space(self._session)
        self.contract = self._session.contract
        self.provider = self._session.provider

    def decode(self, latents: FloatArray) -> Pixels:
        """Decode latents [batch, channels, height, width] in the denoiser's scale to pixels [batch, H, W, 3], 0..255.

        Raises:
            RuntimeFault: the session could not run, or gave a value that is not finite.
        """
        scaled = from_model(latents, self.space.scaling_factor, self.space.shift_factor)
        return _to_bytes(self._session.run({"latents": scaled})["pixels"])


def _to_bytes(pixels: FloatArray) -> Pixels:
    # Rounded operation by operation as diffusers' VaeImageProcessor does, so that every byte is the same. The array is
    # the run's own result, so it is worked on in place.
    pixels *= np.float32(0.5)
    pixels += np.float32(0.5)
    np.clip(pixels, 0, 1, out=pixels)
    # clipping took care of infinity, and passes NaN on
    if np.isnan(pixels).any():
        raise RuntimeFault("vae_decoder: gave pixels that are not numbers; the latents or the model are damaged")
    pixels *= np.float32(255)
    np.rint(pixels, out=pixels)
    return np.ascontiguousarray(pixels.transpose(0, 2, 3, 1).astype(np.uint8))
