"""How far apart two pictures of the same latents are: in decibels, and to look at."""

import math
from dataclasses import dataclass
from typing import NamedTuple, Self, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from components.messages import Pixels
from services.errors import ServingError

_WHITE = 255

# a sheet: pictures side by side under their names, on paper, each at least so many pixels wide
_LEAST_SIDE = 256
# all but the pictures is so much larger as they are wider than this
_USUAL_SIDE = 400
_MARGIN = 24
_TITLE_SIZE, _NOTE_SIZE = 17, 15
_TITLE_HEIGHT, _NOTE_HEIGHT = 30, 30
_SCALE_WIDTH, _SCALE_GAP, _SCALE_ROOM = 14, 6, 48
_PAPER, _INK, _PALE_INK, _RIM = "#ffffff", "#1a1a1a", "#5c5c5c", "#c8c8c8"
# black where nothing differs, then dark red, orange, yellow, white: lighter is always more, also without colours
_HEAT = ((0, (0, 0, 0)), (64, (110, 10, 60)), (128, (215, 60, 25)), (192, (250, 165, 30)), (255, (255, 250, 210)))

_Map: TypeAlias = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class Difference:
    """How two pictures differ: `psnr_db` is infinite where they are the same, `largest` is 0..255.

    `amplified` [height, width] is 0..255: at each pixel the channel that differs most, `factor` times.
    """

    psnr_db: float
    largest: int
    factor: int
    amplified: _Map


def psnr_db(a: Pixels, b: Pixels) -> float:
    """The peak signal-to-noise ratio of two pictures [height, width, 3] in decibels; infinite where they are the same.

    Raises:
        ServingError: they are not of one size.
    """
    if a.shape != b.shape:
        sizes = " and ".join(f"{one.shape[1]}x{one.shape[0]}" for one in (a, b))
        raise ServingError(f"pictures of {sizes} cannot be compared")
    squared = float(np.square(a.astype(np.float32) - b).mean(dtype=np.float64))
    return math.inf if squared == 0 else 10 * math.log10(_WHITE**2 / squared)


def difference(a: Pixels, b: Pixels) -> Difference:
    """Compare two pictures [height, width, 3].

    Raises:
        ServingError: they are not of one size.
    """
    psnr = psnr_db(a, b)
    most = np.abs(a.astype(np.int16) - b).max(axis=2)
    largest = int(most.max())
    # the largest power of two that keeps every difference apart from the others
    factor = 1 if largest == 0 else 2 ** int(math.log2(_WHITE / largest))
    return Difference(psnr, largest, factor, (most * factor).astype(np.uint8))


def decibels(psnr: float) -> str:
    """A ratio as headers and sheets say it: 41.27, or inf."""
    return "inf" if math.isinf(psnr) else f"{psnr:.2f}"


def sheet(a: Pixels, b: Pixels, found: Difference, names: tuple[str, str]) -> Pixels:
    """Two pictures and the map of their difference side by side, with their names and figures written in.

    Pictures under 256 pixels are shown with each pixel as a square of several.
    """
    layout = _Layout.of(a)
    paper = Image.new("RGB", layout.size, _PAPER)
    draw = ImageDraw.Draw(paper)
    first, second = (f"{letter}  {layout.fitted(name)}" for letter, name in zip("AB", names, strict=True))
    titles = (first, second, f"difference, {found.factor} times")
    for column, (title, pixels) in enumerate(zip(titles, (a, b, _heat(found.amplified)), strict=True)):
        left = layout.margin + column * (layout.width + layout.margin)
        draw.text((left, layout.margin), title, _INK, layout.font(_TITLE_SIZE))
        picture = Image.fromarray(pixels).resize((layout.width, layout.height), Image.Resampling.NEAREST)
        _place(paper, draw, picture, (left, layout.top))
    _draw_scale(paper, draw, layout, found)
    below = layout.top + layout.height + layout.scale * _NOTE_HEIGHT // 3
    draw.text((layout.margin, below), _note(found), _PALE_INK, layout.font(_NOTE_SIZE))
    return np.asarray(paper)


class _Layout(NamedTuple):
    """Where things are on a sheet: `width` and `height` of each panel, and how much larger than usual all else is."""

    width: int
    height: int
    scale: int

    @classmethod
    def of(cls, picture: Pixels) -> Self:
        height, width = picture.shape[:2]
        zoom = max(1, math.ceil(_LEAST_SIDE / min(height, width)))
        return cls(width * zoom, height * zoom, max(1, width * zoom // _USUAL_SIDE))

    @property
    def margin(self) -> int:
        return self.scale * _MARGIN

    @property
    def top(self) -> int:
        return self.margin + self.scale * _TITLE_HEIGHT

    @property
    def size(self) -> tuple[int, int]:
        across = 3 * self.width + 4 * self.margin + self.scale * _SCALE_ROOM
        return across, self.top + self.height + self.scale * _NOTE_HEIGHT + self.margin

    def font(self, size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
        return ImageFont.load_default(self.scale * size)

    def fitted(self, name: str) -> str:
        """A version's name cut to a panel with a letter before it, at its beginning: its end says more."""
        font, cut = self.font(_TITLE_SIZE), name
        while cut and font.getlength(f"A  {cut}") > self.width:
            cut = f"...{cut.removeprefix('...')[1:]}" if len(cut) > len("...") else ""
        return cut


def _note(found: Difference) -> str:
    if found.largest == 0:
        return "PSNR infinite: the two pictures are the same in every byte"
    return f"PSNR {decibels(found.psnr_db)} dB, largest difference {found.largest} of {_WHITE}"


def _draw_scale(paper: Image.Image, draw: ImageDraw.ImageDraw, layout: _Layout, found: Difference) -> None:
    """What the map's colours stand for, from nothing at the bottom to 255 / factor at the top."""
    left = 3 * (layout.width + layout.margin) + layout.margin // 2
    width = layout.scale * _SCALE_WIDTH
    levels = np.linspace(_WHITE, 0, layout.height).round().astype(np.uint8)
    bar = Image.fromarray(_heat(np.repeat(levels[:, None], width, axis=1)))
    _place(paper, draw, bar, (left, layout.top))
    font, right = layout.font(_NOTE_SIZE), left + width + layout.scale * _SCALE_GAP
    draw.text((right, layout.top), f"{_WHITE / found.factor:.0f}", _PALE_INK, font)
    draw.text((right, layout.top + layout.height), "0", _PALE_INK, font, anchor="ls")


def _place(paper: Image.Image, draw: ImageDraw.ImageDraw, picture: Image.Image, at: tuple[int, int]) -> None:
    left, top = at
    paper.paste(picture, at)
    draw.rectangle((left - 1, top - 1, left + picture.width, top + picture.height), outline=_RIM)


def _heat(levels: _Map) -> Pixels:
    """Levels 0..255 [height, width] as colours."""
    at = [level for level, _ in _HEAT]
    channels = [np.interp(np.arange(_WHITE + 1), at, [colour[c] for _, colour in _HEAT]) for c in range(3)]
    palette: Pixels = np.stack(channels, axis=1).round().astype(np.uint8)
    return palette[levels]
