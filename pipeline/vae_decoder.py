"""The VAE decoder's stage: latents to pixels."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from components.contract import Kind
from components.folder import ComponentFolder
from components.messages import FloatArray, Pixels, Tiling
from diffusion.latents import from_model
from pipeline.stage import Interface, latent_space, open_session
from pipeline.tiling import in_tiles
from runtime.errors import RuntimeFault
from runtime.settings import SessionSettings

_INTERFACE = Interface(Kind.VAE_DECODER, frozenset({"latents"}), frozenset({"pixels"}))
_CHANNELS = 3


class PictureFault(StrEnum):
    """Why an array of pixels is no picture."""

    NON_FINITE = "pixels that are not finite"
    CONSTANT = "one colour everywhere"


@dataclass(frozen=True, slots=True, eq=False)
class DecodedBatch:
    """Pixels [batch, H, W, 3], 0..255, and for each picture what is wrong with it; one not finite is black here."""

    pixels: Pixels
    faults: tuple[PictureFault | None, ...]


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

    def decode(self, latents: FloatArray, tiling: Tiling | None = None) -> Pixels:
        """Decode latents [batch, channels, height, width] in the denoiser's scale to pixels [batch, H, W, 3], 0..255.

        With `tiling` the network sees them in tiles, and needs no more memory than for a run of these.

        Raises:
            RuntimeFault: the session could not run, or gave something that is no picture.
        """
        decoded = self.decode_each(latents, tiling)
        for fault in decoded.faults:
            if fault is not None:
                raise RuntimeFault(f"vae_decoder: gave {fault}; the latents or the model are damaged")
        return decoded.pixels

    def decode_each(self, latents: FloatArray, tiling: Tiling | None = None) -> DecodedBatch:
        """Decode as `decode` does, but say of each picture what is wrong with it rather than fail for all.

        Raises:
            RuntimeFault: the session could not run.
        """
        scaled = from_model(latents, self.space.scaling_factor, self.space.shift_factor)
        pixels = self._run(scaled) if tiling is None else in_tiles(self._run, scaled, tiling, self.space.downscale, 1)
        # before clipping, which would make numbers of infinities
        finite = np.asarray(np.isfinite(pixels).all(axis=(1, 2, 3)))
        if not finite.all():
            pixels[~finite] = -1
        pictures = _to_bytes(pixels)
        return DecodedBatch(pictures, tuple(map(fault_of, pictures, finite.tolist())))

    def _run(self, scaled: FloatArray) -> FloatArray:
        return self._session.run({"latents": scaled})["pixels"]


def fault_of(picture: Pixels, finite: bool) -> PictureFault | None:
    """What is wrong with one picture [H, W, 3] whose values, before they were bytes, were all `finite` or not."""
    if not finite:
        return PictureFault.NON_FINITE
    # Every pixel like the next one; slices of one row of bytes compare at the speed of memory, and a picture with its
    # first pixel, three bytes at a time, twenty times as slowly.
    values = picture.reshape(-1)
    constant = np.array_equal(values[_CHANNELS:], values[:-_CHANNELS])
    return PictureFault.CONSTANT if constant else None


def _to_bytes(pixels: FloatArray) -> Pixels:
    # Rounded operation by operation as diffusers' VaeImageProcessor does, so that every byte is the same. The array is
    # the run's own result, so it is worked on in place.
    pixels *= np.float32(0.5)
    pixels += np.float32(0.5)
    np.clip(pixels, 0, 1, out=pixels)
    pixels *= np.float32(255)
    np.rint(pixels, out=pixels)
    return np.ascontiguousarray(pixels.transpose(0, 2, 3, 1).astype(np.uint8))
