"""Which picture another one was made from, told by digests: the story holds no pixels."""

from hashlib import sha256
from typing import NamedTuple, Self

from pydantic import Field

from components.manifest import Sha256
from components.messages import FloatArray, Mask, Pixels
from components.record import Record

_MOST_SIDE = 2**20


class PixelsDigest(Record):
    """Which pixels they were: the SHA-256 of their bytes, row by row from the top, and their width and height."""

    sha256: Sha256 = Field(description="of the bytes, row by row from the top")
    width: int = Field(ge=1, le=_MOST_SIDE, description="in pixels, or latents")
    height: int = Field(ge=1, le=_MOST_SIDE, description="in pixels, or latents")

    @classmethod
    def of(cls, values: Pixels | Mask | FloatArray) -> Self:
        """The digest of RGB pixels [height, width, 3], or of a mask or depth [height, width].

        A mask's bytes are 0 and 1, depth has four bytes a value, the least first.
        """
        height, width = values.shape[:2]
        return cls(sha256=sha256(values.tobytes()).hexdigest(), width=width, height=height)


class Origin(NamedTuple):
    """What a picture was made from, as the stages were given it: pixels of the drawn size, mask and depth of latents'.

    `source` is None where the picture was made from noise alone, or nothing is told; `mask` where it was drawn anew
    everywhere, `depth` where the denoiser sees none.
    """

    source: PixelsDigest | None = None
    mask: PixelsDigest | None = None
    depth: PixelsDigest | None = None

    @classmethod
    def of(cls, pixels: Pixels, mask: Mask | None, depth: FloatArray | None = None) -> Self:
        """The digests of pixels [1, height, width, 3], of a mask [height, width] and of depth [1, 1, height, width]."""
        return cls(
            PixelsDigest.of(pixels[0]),
            None if mask is None else PixelsDigest.of(mask),
            None if depth is None else PixelsDigest.of(depth[0, 0].astype("<f4")),
        )


NOISE = Origin()
