"""Random masks for inpainting: boxes, ellipses, a side of the picture, brush strokes, sometimes everything."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

_STROKE_POINTS = (3, 7)
_STROKE_WIDTH = (0.1, 0.25)
_EVERYTHING = 0.1


def training_mask(random: np.random.Generator, size: int) -> NDArray[np.float32]:
    """[size, size] of 0 and 1, 1 where something is to be drawn; now and then all of it, as in text to image."""
    if random.random() < _EVERYTHING:
        return np.ones((size, size), np.float32)
    return part_mask(random, size)


def part_mask(random: np.random.Generator, size: int) -> NDArray[np.float32]:
    """[size, size] of 0 and 1, 1 where something is to be drawn: always a part of the picture."""
    image = Image.new("1", (size, size))
    shape = (_box, _ellipse, _side, _stroke)[int(random.integers(4))]
    shape(ImageDraw.Draw(image), random, size)
    return np.asarray(image).astype(np.float32)


def _box(draw: ImageDraw.ImageDraw, random: np.random.Generator, size: int) -> None:
    draw.rectangle(_corners(random, size), fill=1)


def _ellipse(draw: ImageDraw.ImageDraw, random: np.random.Generator, size: int) -> None:
    draw.ellipse(_corners(random, size), fill=1)


def _side(draw: ImageDraw.ImageDraw, random: np.random.Generator, size: int) -> None:
    end, first = size - 1, int(size * random.uniform(0.25, 0.6))
    sides = [(0, 0, first, end), (end - first, 0, end, end), (0, 0, end, first), (0, end - first, end, end)]
    draw.rectangle(sides[int(random.integers(4))], fill=1)


def _stroke(draw: ImageDraw.ImageDraw, random: np.random.Generator, size: int) -> None:
    width = int(size * random.uniform(*_STROKE_WIDTH))
    points = random.uniform(0.1 * size, 0.9 * size, (int(random.integers(*_STROKE_POINTS)), 2))
    draw.line([(float(x), float(y)) for x, y in points], fill=1, width=width, joint="curve")


def _corners(random: np.random.Generator, size: int) -> tuple[int, int, int, int]:
    width, height = (int(size * random.uniform(0.3, 0.7)) for _ in range(2))
    left, top = int(random.integers(size - width + 1)), int(random.integers(size - height + 1))
    return left, top, left + width - 1, top + height - 1
