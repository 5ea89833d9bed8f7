"""Classifier-free guidance: how the unconditional and the conditional prediction become one, and at which steps."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from diffusion.arrays import Array, PerRow, per_row
from diffusion.errors import DiffusionError, require_between


class Row(StrEnum):
    """What a row of a picture is conditioned on."""

    NEGATIVE = "negative"
    IMAGE = "image"
    POSITIVE = "positive"
    # what POSITIVE is, without some of the network's layers
    SKIPPING = "skipping"


# what has the prompt; the others have the negative one
WITH_PROMPT = (Row.POSITIVE, Row.SKIPPING)

# where nothing is weighed
ALONE = (Row.POSITIVE,)


@dataclass(frozen=True, slots=True, kw_only=True)
class SkipGuidance:
    """How strongly a walk is led away from what the network draws without some of its layers, and where on its way.

    `start` and `end` are fractions of sampling, 0 <= start < end <= 1. The defaults are those of diffusers.
    Raises DiffusionError naming the field as requests do: skip_layer_guidance, and the same with _start and _end.
    """

    scale: float = 2.8
    start: float = 0.01
    end: float = 0.2

    def __post_init__(self) -> None:
        """Check every field."""
        if not (math.isfinite(self.scale) and self.scale >= 0):
            raise DiffusionError("skip_layer_guidance", self.scale, "a finite number, at least 0")
        require_between("skip_layer_guidance_start", self.start, 0, 1)
        require_between("skip_layer_guidance_end", self.end, 0, 1)
        if not self.start < self.end:
            limit = f"less than skip_layer_guidance_end, {self.end:g}"
            raise DiffusionError("skip_layer_guidance_start", self.start, limit)

    def leads(self, step: int, steps: int) -> bool:
        """Whether it does in step `step`, 0..steps - 1: one that begins between start and end, neither included."""
        return steps * self.start < step < steps * self.end


@dataclass(frozen=True, slots=True, kw_only=True)
class Guidance:
    """How strongly one walk follows its prompt, and where on its way.

    `scale`: 0 ignores the prompt, 1 takes the conditional prediction alone. `rescale`: the share phi, 0..1, of the
    deviation that guidance adds and that is taken back. `start` and `end`: the part of sampling that is guided, as
    fractions, 0 <= start < end <= 1. `agreement`: the cosine similarity, over 0 and up to 1, of the two predictions
    from which on the rest of the walk takes the conditional one alone; None: never. `image_scale`: how strongly it
    keeps to the picture that an instruction edits, with a third row that has the picture and no text; None: there is
    no such row. `skip` is another such row's, without some of the network's layers.
    Raises DiffusionError naming the field as requests do: guidance, guidance_rescale, guidance_start, guidance_end,
    adaptive_guidance, image_guidance.
    """

    scale: float
    rescale: float = 0.0
    start: float = 0.0
    end: float = 1.0
    agreement: float | None = None
    image_scale: float | None = None
    skip: SkipGuidance | None = None

    def __post_init__(self) -> None:
        """Check every field."""
        if not (math.isfinite(self.scale) and self.scale >= 0):
            raise DiffusionError("guidance", self.scale, "a finite number, at least 0")
        require_between("guidance_rescale", self.rescale, 0, 1)
        require_between("guidance_start", self.start, 0, 1)
        require_between("guidance_end", self.end, 0, 1)
        if not self.start < self.end:
            raise DiffusionError("guidance_start", self.start, f"less than guidance_end, {self.end:g}")
        if self.agreement is not None and not 0 < self.agreement <= 1:
            raise DiffusionError("adaptive_guidance", self.agreement, "over 0 and at most 1")
        if self.image_scale is not None and not (math.isfinite(self.image_scale) and self.image_scale >= 0):
            raise DiffusionError("image_guidance", self.image_scale, "a finite number, at least 0")

    @property
    def weighed(self) -> tuple[Row, ...]:
        """The rows that guided steps weigh, in the order of a run."""
        return self._by_texts if self.skip is None else (*self._by_texts, Row.SKIPPING)

    def rows(self, step: int, steps: int) -> tuple[Row, ...]:
        """The rows of step `step`, 0..steps - 1: those that it weighs, or the conditional one alone."""
        if not self.guides(step, steps):
            return ALONE
        return self.weighed if self.skip is not None and self.skip.leads(step, steps) else self._by_texts

    @property
    def _by_texts(self) -> tuple[Row, ...]:
        if self.scale == 1 and self.image_scale is None:
            return ALONE
        return (Row.NEGATIVE, Row.POSITIVE) if self.image_scale is None else (Row.NEGATIVE, Row.IMAGE, Row.POSITIVE)

    def guides(self, step: int, steps: int) -> bool:
        """Say whether step `step`, 0..steps - 1, is guided; where not, the conditional row runs alone.

        Kynkäänniemi et al. 2024, "Applying Guidance in a Limited Interval", with the interval in fractions of sampling
        instead of noise levels: a step lies at step / steps, where it begins, and start <= step / steps < end. So
        start 0 holds the first step, end 1 the last, and intervals that meet share none. At scale 1 no step is guided,
        unless a picture is kept to or layers are skipped. An interval narrower than a step may hold none.
        """
        return len(self.weighed) > 1 and self.start <= step / steps < self.end

    def combine(self, rows: Mapping[Row, Array]) -> Array:
        """Guide and rescale the predictions [B, ...] of a step that is guided, by their rows; float32."""
        guided = cond = rows[Row.POSITIVE]
        if self.image_scale is not None:
            guided = guide_edit(rows[Row.NEGATIVE], rows[Row.IMAGE], cond, self.scale, self.image_scale)
        elif Row.NEGATIVE in rows:
            guided = guide(rows[Row.NEGATIVE], cond, self.scale)
        if self.skip is not None and Row.SKIPPING in rows:
            guided = lead_away(guided, cond, rows[Row.SKIPPING], self.skip.scale)
        return guided if self.rescale == 0 else rescale(guided, cond, self.rescale)

    def agrees(self, rows: Mapping[Row, Array]) -> bool:
        """Say whether a guided step's predictions [1, ...] are so alike that the conditional one alone will do."""
        if self.agreement is None or Row.NEGATIVE not in rows:
            return False
        return agree(rows[Row.NEGATIVE], rows[Row.POSITIVE]) >= self.agreement


def guide(uncond: Array, cond: Array, scale: PerRow) -> Array:
    """Push the prediction from the unconditional towards the conditional: uncond + scale * (cond - uncond).

    Scale 0 ignores the prompt, 1 is the conditional prediction, more follows the prompt harder (Ho and Salimans 2022,
    equation 6 with scale = w + 1). Both predictions are [B, ...] float32; scale is one number or [B]. Meant for the
    network's raw output, as in diffusers: on denoised estimates it is the same line with other rounding. At scale 1
    a caller saves the unconditional row altogether.
    """
    return uncond + per_row("scale", scale, uncond) * (cond - uncond)


def guide_edit(uncond: Array, image: Array, cond: Array, scale: float, image_scale: float) -> Array:
    """Push from no condition towards the picture, and from the picture alone towards picture and instruction.

    uncond + scale * (cond - image) + image_scale * (image - uncond): Brooks et al. 2023, "InstructPix2Pix", equation 3.
    All three are [B, ...] float32.
    """
    guided: Array = uncond + np.float32(scale) * (cond - image) + np.float32(image_scale) * (image - uncond)
    return guided


def lead_away(guided: Array, cond: Array, skipping: Array, scale: float) -> Array:
    """Push what is guided away from the conditional prediction without some layers: guided + scale * (cond - skipping).

    Skip-layer guidance of Stable Diffusion 3.5, as in diffusers' StableDiffusion3Pipeline. All are [B, ...] float32.
    """
    led: Array = guided + (cond - skipping) * np.float32(scale)
    return led


def rescale(guided: Array, cond: Array, phi: float) -> Array:
    """Bring each row's standard deviation the share `phi`, 0..1, of the way back to that of the conditional prediction.

    guided * (phi * std(cond) / std(guided) + 1 - phi): Lin et al. 2023, "Common Diffusion Noise Schedules and Sample
    Steps are Flawed", section 3.4. Both are [B, ...] float32; a row without deviation stays as it is. Raises
    DiffusionError for phi out of range.
    """
    require_between("guidance_rescale", phi, 0, 1)
    factors = np.array([_factor(*rows, phi) for rows in zip(guided, cond, strict=True)])
    return guided * per_row("guidance_rescale", factors, guided)


def _factor(guided: Array, cond: Array, phi: float) -> float:
    # row by row: over a whole batch NumPy may add up in another order, and a row's bits must not tell how many ran
    wide = float(np.std(guided, dtype=np.float64))
    return 1.0 if wide == 0 else phi * float(np.std(cond, dtype=np.float64)) / wide + (1 - phi)


def agree(uncond: Array, cond: Array) -> float:
    """Measure the cosine similarity of one row's two predictions, [1, ...] each: -1..1, computed in float64.

    Castillo et al. 2023, "Adaptive Guidance: Training-free Acceleration of Conditional Diffusion Models": it rises
    along the walk, and over a threshold guidance changes nothing to be seen. 0 where one of the two is all zero,
    1 where both are.
    """
    one, other = np.ravel(uncond).astype(np.float64), np.ravel(cond).astype(np.float64)
    # sums, not BLAS: its order of adding depends on the number of threads
    lengths = float(np.sum(one * one)), float(np.sum(other * other))
    if 0 in lengths:
        return 1.0 if lengths == (0, 0) else 0.0
    # one root of the product: exactly 1 for a row and itself
    return float(np.sum(one * other)) / math.sqrt(lengths[0] * lengths[1])
