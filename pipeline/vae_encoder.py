"""The VAE encoder's stage: pixels to latents."""

import numpy as np

from components.contract import Kind
from components.folder import ComponentFolder
from components.messages import FloatArray, LatentDistribution, Mask, Pixels, Tiling
from pipeline.errors import refuse
from pipeline.planes import signed_planes
from pipeline.stage import Interface, latent_space, open_session
from pipeline.tiling import in_tiles
from runtime.settings import SessionSettings

_RGB = 3
_INTERFACE = Interface(Kind.VAE_ENCODER, frozenset({"pixels"}), frozenset({"mean", "log_variance"}))


class VaeEncoder:
    """Encodes 8-bit pictures to latents; usable from any number of threads at once."""

    def __init__(self, folder: ComponentFolder, settings: SessionSettings) -> None:
        """Open the component.

        Raises:
            ComponentError: it is no VAE encoder.
            RuntimeFault: as `Session.open`.
        """
        self._session = open_session(folder, settings, _INTERFACE)
        self.space = latent_space(self._session)
        self.contract = self._session.contract
        self.provider = self._session.provider

    def encode(self, pixels: Pixels, tiling: Tiling | None = None, hidden: Mask | None = None) -> LatentDistribution:
        """Encode pixels [batch, H, W, 3], 0..255, to a normal distribution of latents in the VAE's own scale.

        `diffusion.latents.to_model` brings a sample of it to the denoiser's scale. With `tiling` the network sees the
        pictures in tiles, and needs no more memory than for a run of these. With `hidden` [H, W] as many pictures come
        on top, after all others: the same with grey in their place where it is True.

        Raises:
            RequestError: the pixels are not such an array, a side is no multiple of the VAE's downscale, or `hidden` is
                of another size.
            RuntimeFault: the session could not run.
        """
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[3] != 3:
            raise refuse("image", f"{pixels.dtype} {list(pixels.shape)}", "uint8 [batch, height, width, 3]")
        if any(side == 0 or side % self.space.downscale for side in pixels.shape[1:3]):
            size = f"{pixels.shape[2]}x{pixels.shape[1]}"
            raise refuse("image", size, f"of sides that are multiples of {self.space.downscale}")
        if hidden is not None and hidden.shape != pixels.shape[1:3]:
            raise refuse("mask", list(hidden.shape), f"of the picture's size {list(pixels.shape[1:3])}")
        planes = pixels.transpose(0, 3, 1, 2)
        if hidden is not None:
            planes = _twice(planes, hidden)
        downscale = self.space.downscale
        both = self._run(planes) if tiling is None else in_tiles(self._run, planes, tiling, downscale, downscale)
        return LatentDistribution(*np.split(both, 2, axis=1))

    def _run(self, planes: Pixels) -> FloatArray:
        """Mean and log-variance of planes [batch, 3, H, W], 0..255, one after the other in the channels.

        A fourth plane says where, if it is there: grey takes the place of what is under its ones.
        """
        # here and not before tiles are cut: only what a run sees is held in 32 bits
        scaled = signed_planes(planes[:, :_RGB].transpose(0, 2, 3, 1))
        if planes.shape[1] > _RGB:
            # 0 is grey, which no pixel of 8 bits is exactly
            scaled[np.broadcast_to(planes[:, _RGB:] == 1, scaled.shape)] = 0
        outputs = self._session.run({"pixels": scaled})
        return np.concatenate((outputs["mean"], outputs["log_variance"]), axis=1)


def _twice(planes: Pixels, hidden: Mask) -> Pixels:
    """Planes [2 * batch, 4, H, W]: all as they are, and all with what is `hidden`, by the fourth plane."""
    shown = np.zeros((len(planes), 1, *hidden.shape), np.uint8)
    return np.concatenate(
        [np.concatenate((planes, under), axis=1) for under in (shown, shown + hidden)], dtype=np.uint8
    )
