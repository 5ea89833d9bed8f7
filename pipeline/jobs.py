"""From a checked request and its encoded texts and picture to one job for each picture."""

from collections.abc import Sequence

from components.contract import Contract, LatentSpace
from components.messages import (
    ControlFeatures,
    ControlPicture,
    DenoiseJob,
    EncodedImage,
    EncodedText,
    FloatArray,
    ImageRequest,
    Walk,
)
from diffusion.latents import sample, to_model
from diffusion.noise import noise as draw_noise
from pipeline.rows import conditioned_rows


def denoise_jobs(
    request: ImageRequest,
    encoded: EncodedText,
    contract: Contract,
    noise: FloatArray | None = None,
    image: EncodedImage | None = None,
    controls: Sequence[ControlPicture] = (),
    features: Sequence[ControlFeatures] = (),
) -> list[DenoiseJob]:
    """The jobs of a request's n pictures, each the one of its picture alone, for the denoiser of that contract.

    `encoded` holds `request.texts` in their order. `noise`, if given, starts every picture in place of its seed.
    `image` is what the pictures start from, if they start from one; `controls` and `features` hold all of them.
    """
    space = contract.latent_space
    assert space is not None, "a denoiser's contract has a latent space"
    return [
        DenoiseJob(
            rows=conditioned_rows(one, encoded, contract),
            **one.parts(),
            height=request.height // space.downscale,
            width=request.width // space.downscale,
            noise=noise,
            image_latents=None if image is None else _image_latents(image, one, space),
            mask=None if image is None else image.mask,
            controls=tuple(controls),
            features=tuple(features),
        )
        for one in map(request.picture, range(request.n))
    ]


def _image_latents(image: EncodedImage, walk: Walk, space: LatentSpace) -> FloatArray:
    mean, log_variance = image.distribution
    # draw 0: diffusers samples the picture's latents before it draws the noise
    sampled = sample(mean, log_variance, draw_noise(walk.seed, 0, mean.shape, walk.rng))
    return to_model(sampled, space.scaling_factor, space.shift_factor)
