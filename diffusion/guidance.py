"""Classifier-free guidance."""

from diffusion.arrays import Array, PerRow, per_row


def guide(uncond: Array, cond: Array, scale: PerRow) -> Array:
    """Push the prediction from the unconditional towards the conditional: uncond + scale * (cond - uncond).

    Scale 0 ignores the prompt, 1 is the conditional prediction, more follows the prompt harder (Ho and Salimans 2022,
    equation 6 with scale = w + 1). Both predictions are [B, ...] float32; scale is one number or [B]. Meant for the
    network's raw output, as in diffusers: on denoised estimates it is the same line with other rounding. At scale 1
    a caller saves the unconditional row altogether.
    """
    return uncond + per_row("scale", scale, uncond) * (cond - uncond)
