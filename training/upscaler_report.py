"""How good `emoji-x4` is: on held-out pictures, beside the bicubic filter and what its VAE alone loses."""

from diffusers import StableDiffusionPipeline, StableDiffusionUpscalePipeline
from torch import Tensor

from training.evaluation import nearest_labels, share_found
from training.latents import LatentSet, encode
from training.page import Shown, evenly, table
from training.pictures import PictureSet
from training.upscaler import SmallPictures, bicubic, held_out_small, side_by_side, upscale
from training.vae import in_bytes, pixels_to_tensor, psnr, reconstruct

_SHOWN = 12
_OTHER_LEVEL, _OTHER_STEPS = 20, 5


def upscaler_report(pipe: StableDiffusionUpscalePipeline, base: StableDiffusionPipeline, pictures: PictureSet) -> Shown:
    """PSNR to the true pictures and the share found by label among all pictures, by the VAE of `base`."""
    what = held_out_small(pictures)
    true, known = pixels_to_tensor(what.true), encode(base.vae, pictures, range(len(pictures.pictures)))
    drawn = {
        "bicubic filter": pixels_to_tensor(bicubic(what.small)),
        "emoji-x4, 25 steps": upscale(pipe, what),
        f"emoji-x4, {_OTHER_STEPS} steps": upscale(pipe, what, steps=_OTHER_STEPS),
        f"the same, {_OTHER_STEPS} steps, noise level {_OTHER_LEVEL}": upscale(
            pipe, what, steps=_OTHER_STEPS, noise_level=_OTHER_LEVEL
        ),
        "the true pictures through its VAE": reconstruct(pipe.vae, true),
    }
    heads = [f"{len(true)} held-out pictures", "PSNR, mean", "median", "label found"]
    rows = [_row(name, pixels, true, what, base, known) for name, pixels in drawn.items()]
    which = evenly(len(true), _SHOWN)
    return Shown(
        table(heads, rows),
        side_by_side(what.at(which), drawn["emoji-x4, 25 steps"][which]),
        "Twelve held-out pictures: small; by the bicubic filter; by emoji-x4; true",
        "The prompts and seeds, from left to right",
        [f"{what.prompts[i]} (seed {i})" for i in which],
    )


def _row(
    name: str, pixels: Tensor, true: Tensor, what: SmallPictures, base: StableDiffusionPipeline, known: LatentSet
) -> list[str]:
    found = psnr(in_bytes(pixels), true)
    share = share_found(what.labels, nearest_labels(base.vae, pixels, known))
    return [name, f"{found.mean():.1f} dB", f"{found.median():.1f} dB", f"{share:.1%}"]
