"""Which picture another one was made from, told by digests: the story holds no pixels."""

from hashlib import sha256
from typing import NamedTuple, Self

from pydantic import Field

from components.manifest import Sha256
from components.messages import FloatArray, Mask, Pixels, Source
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
    everywhere, `depth` where the denoiser sees none; `laid_into`, which has the size of the picture, where the drawn
    one is the picture.
    """

    source: PixelsDigest | None = None
    mask: PixelsDigest | None = None
    depth: PixelsDigest | None = None
    laid_into: PixelsDigest | None = None

    @classmethod
    def of(cls, source: Source) -> Self:
        """The digests of what a request's pictures start from; depth [1, 1, height, width] as little-endian float32."""
        mask, depth, overlay = source.mask, source.depth, source.overlay
        return cls(
            PixelsDigest.of(source.pixels[0]),
            None if mask is None else PixelsDigest.of(mask),
            None if depth is None else PixelsDigest.of(depth[0, 0].astype("<f4")),
            None if overlay is None else PixelsDigest.of(overlay.picture),
        )


NOISE = Origin()
