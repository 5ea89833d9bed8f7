"""From a checked request and its encoded texts and picture to one job for each picture."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from components.contract import Contract, LatentSpace
from components.messages import (
    Arrays,
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
from pipeline.low_resolution import noised_picture
from pipeline.rows import conditioned_rows


def denoise_jobs(
    request: ImageRequest,
    encoded: EncodedText,
    contract: Contract,
    noise: FloatArray | None = None,
    image: EncodedImage | None = None,
    controls: Sequence[ControlPicture] = (),
    features: Sequence[ControlFeatures] = (),
    adapted: Mapping[str, Arrays] | None = None,
) -> list[DenoiseJob]:
    """The jobs of a request's n pictures, each the one of its picture alone, for the denoiser of that contract.

    `encoded` holds `request.texts` in their order. `noise`, if given, starts every picture in place of its seed.
    `image` is what the pictures start from, if they start from one; `controls` and `features` hold all of them, and
    `adapted` is as `conditioned_rows` takes it.
    """
    space = contract.latent_space
    assert space is not None, "a denoiser's contract has a latent space"
    return [
        DenoiseJob(
            rows=conditioned_rows(one, encoded, contract, _image_channels(image, one, contract, space), adapted),
            **one.parts(),
            height=request.height // space.downscale,
            width=request.width // space.downscale,
            noise=noise,
            **_start(image, one, contract, space),
            controls=tuple(controls),
            features=tuple(features),
        )
        for one in map(request.picture, range(request.n))
    ]


def _start(image: EncodedImage | None, walk: Walk, contract: Contract, space: LatentSpace) -> dict[str, Any]:
    """What a walk starts from, and is held to, by the fields of a job."""
    if image is None or contract.image_guidance is not None:
        return {}
    if image.low_resolution is not None:
        # the noise on the picture comes first, one draw for its planes
        batch, height, width, channels = image.low_resolution.shape
        return {"after": (batch, channels, height, width)}
    if contract.enlarges:
        # and so does what samples its latents
        return {} if image.distribution is None else {"after": image.distribution.mean.shape}
    if image.latents is not None:
        return {"image_latents": image.latents, "sampled": False}
    if contract.sees_mask:
        # nothing holds it to the picture but what the network sees, and noise alone hides all of the picture
        latents = None if walk.strength == 1 else _sampled(image, 0, walk, 0, space)
        return {"image_latents": latents, "drawn": 1}
    # draw 0: diffusers samples the picture's latents before it draws the noise
    return {"image_latents": _sampled(image, 0, walk, 0, space), "mask": image.mask}


def _image_channels(
    image: EncodedImage | None, walk: Walk, contract: Contract, space: LatentSpace
) -> FloatArray | None:
    """What a denoiser looks at beside the latents, [1, channels, height, width]; None where that is nothing."""
    if image is None or not contract.image_channels:
        return None
    if image.low_resolution is not None:
        return noised_picture(image.low_resolution, walk, contract)
    if contract.sees_depth:
        return image.depth
    if contract.enlarges:
        latents = _sampled(image, 0, walk, 0, space) if image.latents is None else image.latents
        return latents.repeat(2, axis=2).repeat(2, axis=3)
    assert image.distribution is not None, "only one that is drawn larger may have none"
    if not contract.sees_mask:
        # the likeliest latents, in the VAE's own scale
        return image.distribution.mean[:1]
    assert image.mask is not None, "a checked request has brought one"
    # after the noise, and after the picture's own latents where a walk starts from them
    hidden = _sampled(image, 1, walk, 1 if walk.strength == 1 else 2, space)
    return np.concatenate((image.mask[np.newaxis, np.newaxis].astype(np.float32), hidden), axis=1)


def _sampled(image: EncodedImage, row: int, walk: Walk, draw: int, space: LatentSpace) -> FloatArray:
    assert image.distribution is not None, "only one that is drawn larger may have none"
    mean, log_variance = (moment[row : row + 1] for moment in image.distribution)
    sampled = sample(mean, log_variance, draw_noise(walk.seed, draw, mean.shape, walk.rng))
    return to_model(sampled, space.scaling_factor, space.shift_factor)
