"""What a row of the denoiser costs, in latent pixels."""

from diffusion.batcher import Limits
from pipeline.track import Track

# a ControlNet is the first half of a U-Net, whose second half has more channels
_CONTROLNET_SHARE = 0.4


def row_pixels(track: Track, limits: Limits) -> int:
    """The latent pixels of a track's rows, and the share of a U-Net that ControlNets run for each of them besides.

    The ControlNets are those of an average step. A picture that may run alone may be drawn with any of them.
    """
    height, width = track.query.latents.shape[2:]
    alone: int = height * width
    beside = round(alone * _CONTROLNET_SHARE * track.held.nets_a_step(track.steps))
    return min(alone + beside, max(alone, limits.pixels // track.rows))
