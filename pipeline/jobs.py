"""From a checked request and its encoded texts to one job for each picture."""

from components.contract import LatentSpace
from components.messages import DenoiseJob, EncodedText, FloatArray, ImageRequest


def denoise_jobs(
    request: ImageRequest, encoded: EncodedText, space: LatentSpace, noise: FloatArray | None = None
) -> list[DenoiseJob]:
    """The jobs of a request's n pictures, each the one of its picture alone.

    `encoded` holds `request.texts` in their order. `noise`, if given, starts every picture in place of its seed.
    """
    return [
        DenoiseJob(
            conditioning=encoded.row(0),
            negative=None if len(request.texts) == 1 else encoded.row(1),
            **one.parts(),
            height=request.height // space.downscale,
            width=request.width // space.downscale,
            noise=noise,
        )
        for one in map(request.picture, range(request.n))
    ]
