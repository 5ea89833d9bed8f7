"""What crosses a process: a request once checked, and what one stage hands to the next."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from pydantic import Field

from components.record import Record

FloatArray: TypeAlias = npt.NDArray[np.float32]
Pixels: TypeAlias = npt.NDArray[np.uint8]
Mask: TypeAlias = npt.NDArray[np.bool_]
Arrays: TypeAlias = Mapping[str, npt.NDArray[Any]]
# left, top, right and bottom in pixels, the last two outside it
Box: TypeAlias = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Walk:
    """How a picture's noise is walked to latents, every field inside its limits.

    `guidance` 0 ignores the prompt, 1 is the prompt alone. `image_guidance` says how much a picture that is edited by
    instruction insists beside it, None where none is. `noise_level` is the timestep whose noise lies on a picture that
    is enlarged, None where none is. `guidance_rescale` 0..1 gives the guided prediction that
    share of the conditional one's deviation. Steps before the fraction `guidance_start` of the walk, and from
    `guidance_end` on, take the conditional prediction alone; so do those after the conditional and the unconditional
    one agreed by the cosine `adaptive_guidance`, None for never. `schedule` names the spread of sigmas, `eta` is the
    sampler's share of noise, `rng` names the source of noise. `subseed` is None where `subseed_strength` is 0; else
    the initial noise is that of `seed` on its way to that of `subseed`, there at strength 1. Of the steps, those of the
    last share `strength` are walked, from a picture's latents with noise on them; without a picture it is 1. Boxes hold
    for the first share `boxes_end` of the evaluations, None where there are none. Guided steps between the fractions
    `skip_layer_guidance_start` and `_end` are also led away, by `skip_layer_guidance`, from what the network draws
    without its layers `skip_layers`, counted from 0; None where none are skipped.
    """

    steps: int
    strength: float = 1.0
    guidance: float
    image_guidance: float | None = None
    noise_level: int | None = None
    guidance_rescale: float = 0.0
    guidance_start: float = 0.0
    guidance_end: float = 1.0
    adaptive_guidance: float | None = None
    skip_layers: tuple[int, ...] = ()
    skip_layer_guidance: float | None = None
    skip_layer_guidance_start: float = 0.01
    skip_layer_guidance_end: float = 0.2
    sampler: str
    schedule: str
    eta: float = 0.0
    rng: str
    seed: int
    subseed: int | None
    subseed_strength: float
    boxes_end: float | None = None

    def parts(self) -> dict[str, Any]:
        """The fields of the walk alone, by name, for a record that holds one."""
        return {field.name: getattr(self, field.name) for field in fields(Walk)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """How strongly a control picture holds a walk, and from which fraction of its steps to which."""

    scale: float = 1.0
    start: float = 0.0
    end: float = 1.0

    def holds(self, step: int, steps: int) -> bool:
        """Whether it holds step `step`, 0..steps - 1: one that lies wholly between `start` and `end`, as in diffusers.

        So intervals that meet within a step both leave it out.
        """
        return self.start <= step / steps and (step + 1) / steps <= self.end


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlChoice(Control):
    """How a control picture holds a walk, and the component that it is for, by the name that it is served under."""

    model: str


@dataclass(frozen=True, slots=True)
class LoraChoice:
    """A LoRA that a request draws with, by the name that it is served under, and how strongly."""

    model: str
    scale: float


@dataclass(frozen=True, slots=True)
class PhraseBox:
    """What is to be in a box of the picture: x0, y0, x1, y1 from its left and top, in shares of width and height."""

    phrase: str
    box: tuple[float, float, float, float]


# a tile's own bounds: one that is smaller shows little, and tiles that lie over each other by more than half cost more
# than four times the picture
LEAST_TILE, MOST_TILE, MOST_OVERLAP = 64, 8192, 0.5


class Tiling(Record):
    """The squares in which the VAE sees a picture that is too large for it as a whole."""

    side: int = Field(ge=LEAST_TILE, le=MOST_TILE, multiple_of=LEAST_TILE, description="in pixels")
    overlap: float = Field(ge=0, le=MOST_OVERLAP, description="the share of its side that a tile has in common")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hires:
    """How a picture is drawn in two passes: small first, then enlarged by `upscaler`, and drawn over from there.

    The first is of `first_width` and `first_height` pixels, taken by the VAE as `tiling` says if it is at all. Of the
    `steps` of the second those of the last share `strength` are walked.
    """

    first_width: int
    first_height: int
    upscaler: str
    strength: float
    steps: int
    tiling: Tiling | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRequest(Walk):
    """A request for `n` pictures, its defaults filled in; `width` and `height` are pixels.

    A text may take `prompt_chunks` times the text encoder's token limit; what is longer is cut. `weighting` names the
    grammar by which it weighs its parts. `clip_skip` 1 takes the text encoder's last layer, 2 the one before it.
    With `tiling` the VAE encodes and decodes the picture in tiles, without as a whole. What a denoiser is told of a
    picture, from `original_height` on, is None for the picture's own size, no crop and the usual scores.
    `controls` are the control pictures that a served request is held by; in one process they come beside it.
    `image_prompt_scale` says how much the pictures weigh that it is to be like, None that there are none. `boxes` say
    what is to be where. With `hires` the picture is drawn in two passes, of which the second has this size. A mask is
    blurred by a Gaussian whose deviation is `mask_blur` of its pixels; with `padding_mask_crop` only what lies around
    its light part, so many pixels on each side, is drawn in this size, and laid back.
    """

    prompt: str
    negative_prompt: str
    prompt_chunks: int = 1
    weighting: str = "none"
    clip_skip: int = 1
    original_height: int | None = None
    original_width: int | None = None
    target_height: int | None = None
    target_width: int | None = None
    crop_top: int | None = None
    crop_left: int | None = None
    aesthetic_score: float | None = None
    negative_aesthetic_score: float | None = None
    controls: tuple[ControlChoice, ...] = ()
    loras: tuple[LoraChoice, ...] = ()
    image_prompt_scale: float | None = None
    boxes: tuple[PhraseBox, ...] = ()
    n: int
    width: int
    height: int
    tiling: Tiling | None = None
    hires: Hires | None = None
    mask_blur: float = 0.0
    padding_mask_crop: int | None = None

    @property
    def passes(self) -> tuple["ImageRequest", ...]:
        """The walks that draw it one after the other, each as a request; the second from what the first one drew."""
        hires = self.hires
        if hires is None:
            return (self,)
        width, height = hires.first_width, hires.first_height
        first = replace(self, width=width, height=height, tiling=hires.tiling, hires=None)
        return first, replace(self, steps=hires.steps, strength=hires.strength, hires=None)

    @property
    def walked(self) -> int:
        """How many steps a picture takes, at least, those of all passes together."""
        return sum(max(1, int(one.steps * one.strength)) for one in self.passes)

    @property
    def texts(self) -> tuple[str, ...]:
        """What to encode: the prompt, and after it the negative prompt where guidance weighs the two."""
        alone = self.guidance == 1 and self.image_guidance is None
        return (self.prompt,) if alone else (self.prompt, self.negative_prompt)

    @property
    def phrases(self) -> tuple[str, ...]:
        """What to encode beside the texts: the phrase of every box."""
        return tuple(box.phrase for box in self.boxes)

    def without_texts(self) -> "ImageRequest":
        """The same, but for whatever somebody wrote: no prompts, and no boxes, which are nothing without phrases."""
        return replace(self, prompt="", negative_prompt="", boxes=(), boxes_end=None)

    def picture(self, image: int) -> "ImageRequest":
        """The request that gives picture `image` of the n alone.

        Picture k has seed + k; but where a subseed varies the noise, all vary the picture of the one seed, and picture
        k has subseed + k, as in A1111.
        """
        if self.subseed is None:
            return replace(self, seed=self.seed + image, n=1)
        return replace(self, subseed=self.subseed + image, n=1)


@dataclass(frozen=True, slots=True, eq=False)
class EncodedText:
    """Conditioning of several texts: arrays by name, each [texts, ...], and which text was cut off.

    `tokens` counts those of each text that were read, without marks and padding; empty where nobody counted. `cached`
    counts the texts that had been encoded before. `phrases` [phrases, width] are vectors of the phrases of boxes, None
    where there are none.
    """

    arrays: Arrays
    truncated: tuple[bool, ...]
    tokens: tuple[int, ...] = ()
    cached: int = 0
    phrases: FloatArray | None = None

    def row(self, index: int) -> Arrays:
        """The conditioning of one text, each array [1, ...]."""
        return {name: array[index : index + 1] for name, array in self.arrays.items()}

    def beside(self, other: "EncodedText") -> "EncodedText":
        """The same texts as another encoder read them too; what it counted of them stays out."""
        cut = tuple(one or another for one, another in zip(self.truncated, other.truncated, strict=True))
        return replace(self, arrays={**self.arrays, **other.arrays}, truncated=cut)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ControlPicture(Control):
    """A control picture for a ControlNet, pixels [1, height, width, 3] 0..255 of the size that is drawn."""

    pixels: Pixels


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ControlFeatures(Control):
    """What an adapter made of a control picture: arrays [1, ...] by the names of the denoiser's inputs."""

    arrays: Arrays


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class DenoiseJob(Walk):
    """One picture for the denoiser: what to draw and how to walk there.

    `rows` holds, by the names of `diffusion.guidance.Row`, what the network is given beside the latents and the
    timestep: arrays [1, ...] by the names of the contract's inputs. `height` and `width` are those of the latents.
    `noise`, standard normal [1, channels, height, width], stands in for the seed's initial noise. `image_latents`, of
    that shape and in the denoiser's scale, are the picture's that the walk starts from, with noise; None starts from
    noise alone. A walk that begins at the fraction `start` of the timesteps takes `image_latents` as one that ended
    there left them, noise and all; `end` is where it ends itself. `mask` [height, width] is True where the picture is
    drawn anew, and elsewhere the picture's latents stay; with one a walk of strength 1 starts from noise alone.
    `controls` hold it by ControlNets, each by one of its own, and `features` by adapters, whose work is done already;
    what several add is summed up. `sampled` says whether `image_latents` have taken a draw of noise, the first; `drawn`
    counts the draws that `rows` have taken after the initial one, and `after` is the shape of what they have taken
    before it, empty for nothing.
    """

    rows: Mapping[str, Arrays]
    height: int
    width: int
    noise: FloatArray | None = None
    image_latents: FloatArray | None = None
    mask: Mask | None = None
    controls: tuple[ControlPicture, ...] = ()
    features: tuple[ControlFeatures, ...] = ()
    start: float = 0.0
    end: float = 1.0
    sampled: bool = True
    drawn: int = 0
    after: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """What a walk can be gone on from, elsewhere: the estimates that its sampler was sent so far, in their order.

    A sampler is a function of its noise and of these, so it stands where it stood once they are sent again, with the
    same bits and without the network. `agreed` says whether adaptive guidance has dropped the unconditional row.
    """

    estimates: tuple[FloatArray, ...] = ()
    agreed: bool = False

    def after(self, later: "Snapshot") -> "Snapshot":
        """The snapshot that the estimates which came later make of this one."""
        return Snapshot(self.estimates + later.estimates, later.agreed)


class LatentDistribution(NamedTuple):
    """What the VAE encoder says of pictures, in the VAE's own scale: both [batch, channels, height, width]."""

    mean: FloatArray
    log_variance: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class EncodedImage:
    """A picture to start from, as the VAE encoder sees it; `mask` [height, width] says what is drawn anew.

    The distribution is of batch 1, or of 2 for a denoiser that sees the mask: the picture, and the same with grey where
    it is drawn anew. Each picture of a request samples its latents from it by its own seed. A denoiser that enlarges a
    picture may see that itself: it has no latents of it, but `low_resolution` [1, height, width, 3], 0..255, of the
    latents' size. Or it is given `latents` [1, channels, height, width] in its own scale in place of a distribution.
    `depth` [1, 1, height, width], of the latents' size, is for one that sees it: -1 the farthest, 1 the nearest.
    """

    distribution: LatentDistribution | None
    mask: Mask | None = None
    low_resolution: Pixels | None = None
    depth: FloatArray | None = None
    latents: FloatArray | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Overlay:
    """What a drawn picture is laid into: `picture` [height, width, 3], 0..255, of which it was drawn for `box`.

    It shows as far as `mask` [height, width] is light, 0..255.
    """

    picture: Pixels
    mask: npt.NDArray[np.uint8]
    box: Box

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the whole."""
        height, width = self.mask.shape
        return width, height


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """What the pictures of a request start from: pixels [1, height, width, 3], 0..255, of the size that is drawn.

    For a denoiser that draws them larger they are so much smaller; one that sees them itself has none encoded.

    `mask`, of the latents' size, is True where the picture is drawn anew; None means everywhere. `hidden` is the same
    in the picture's own size, for a denoiser that sees the mask, and None for others. `depth` [1, 1, height, width], of
    the latents' size, is for one that sees it: -1 the farthest, 1 the nearest. With an `overlay` each drawn picture is
    laid into it.
    """

    pixels: Pixels
    mask: Mask | None = None
    hidden: Mask | None = None
    depth: FloatArray | None = None
    overlay: Overlay | None = None
