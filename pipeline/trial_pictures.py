"""What a trial looks at: latents of fixed prompts, how far two pictures are from each other, how lively they are."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from components.contract import Contract
from components.messages import EncodedImage, FloatArray, LatentDistribution, Pixels
from pipeline.denoiser import Denoiser
from pipeline.jobs import denoise_jobs
from pipeline.request import RequestRules, check_request, least_fields
from pipeline.text_encoder import TextEncoder
from runtime.errors import RuntimeFault

PROMPTS = ("a red apple", "a smiling face", "a house beside a tree", "a blue boat on the sea")

# PSNR of equal pictures, which has no number; one step of 255 in one value of a megapixel is 113 dB
EQUAL_DB = 120.0

_GREY = 128

# the least standard deviation of a picture's liveliest channel, in steps of 255
FLATTEST = 1.0


def prompt_latents(encoder: TextEncoder, denoiser: Denoiser, steps: int) -> Iterator[FloatArray]:
    """The latents [1, channels, height, width] of each of `PROMPTS`, of the denoiser's own size; the same every time.

    Raises:
        RuntimeFault: a session could not run, or gave latents that are not finite.
    """
    contract = denoiser.contract
    own_pixels = int(np.prod(contract.latent_size or 1)) * denoiser.space.downscale**2
    rules = RequestRules(max_pixels=own_pixels)
    for seed, prompt in enumerate(PROMPTS):
        most_steps = min(steps, contract.num_train_timesteps or 1)
        least = least_fields(contract)
        # from noise alone, whatever it is that a denoiser looks at
        strength = None if least.image is None else 1.0
        fields = replace(least, prompt=prompt, seed=seed, steps=most_steps, strength=strength)
        request = check_request(fields, contract, rules)
        [job] = denoise_jobs(request, encoder.encode(request.texts), contract, image=_grey(contract))
        latents = denoiser.denoise(job)
        if not np.isfinite(latents).all():
            raise RuntimeFault(f"the latents of prompt {seed + 1} are not finite")
        yield latents


def _grey(contract: Contract) -> EncodedImage | None:
    """A grey picture, all of it to be drawn anew, for a denoiser that looks at one; None for others."""
    if not contract.image_channels or contract.latent_size is None or contract.latent_space is None:
        return None
    if contract.sees_pixels:
        return EncodedImage(None, low_resolution=np.full((1, *contract.latent_size, 3), _GREY, np.uint8))
    # zeros stand for the latents of grey, and are of no variance to speak of
    sides = (side // 2 if contract.enlarges else side for side in contract.latent_size)
    zeros = np.zeros((2, contract.latent_space.channels, *sides), np.float32)
    everywhere = np.ones(contract.latent_size, np.bool_)
    return EncodedImage(LatentDistribution(zeros, zeros - 30), everywhere, depth=zeros[:1, :1])


def psnr(ours: npt.NDArray[Any], theirs: npt.NDArray[Any], peak: float) -> float:
    """Peak signal-to-noise ratio of two arrays of one shape in dB, `EQUAL_DB` at most; NaN if one is not finite."""
    error = np.mean((ours.astype(np.float64) - theirs.astype(np.float64)) ** 2)
    if error == 0 or not np.isfinite(error):
        return EQUAL_DB if error == 0 else float("nan")
    # A peak of 0 is an array of one value, from which any difference is far. NumPy's, as Python's min would drop a NaN.
    return float(np.minimum(EQUAL_DB, 10 * np.log10(np.maximum(peak, 1e-30) ** 2 / error)))


def psnr_of_each(ours: Sequence[Pixels], theirs: Sequence[Pixels]) -> list[float]:
    """The PSNR in dB of every pair of pictures."""
    return [psnr(left, right, 255.0) for left, right in zip(ours, theirs, strict=True)]


def contrasts(pictures: Sequence[Pixels]) -> list[float]:
    """The standard deviation of the liveliest channel of every picture, 0..127.5."""
    return [float(picture.std(axis=(0, 1)).max()) for picture in pictures]
