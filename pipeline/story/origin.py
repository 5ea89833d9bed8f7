"""Which pictures another one was made from, told by digests: the story holds no pixels."""

from collections.abc import Sequence
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
    one is the picture. `controls` are the pictures that held it, in the order of the request's, and `image_prompts`
    those that it was to be like, as the image encoder saw them.
    """

    source: PixelsDigest | None = None
    mask: PixelsDigest | None = None
    depth: PixelsDigest | None = None
    laid_into: PixelsDigest | None = None
    controls: tuple[PixelsDigest, ...] = ()
    image_prompts: tuple[PixelsDigest, ...] = ()

    @classmethod
    def of(
        cls, source: Source | None, *, controls: Sequence[Pixels] = (), image_prompts: Sequence[Pixels] = ()
    ) -> Self:
        """The digests of what a request's pictures start from, and of others [1, height, width, 3] beside it.

        Depth [1, 1, height, width] counts as little-endian float32.
        """
        beside = (
            tuple(PixelsDigest.of(each[0]) for each in controls),
            tuple(PixelsDigest.of(each[0]) for each in image_prompts),
        )
        if source is None:
            return cls(None, None, None, None, *beside)
        mask, depth, overlay = source.mask, source.depth, source.overlay
        return cls(
            PixelsDigest.of(source.pixels[0]),
            None if mask is None else PixelsDigest.of(mask),
            None if depth is None else PixelsDigest.of(depth[0, 0].astype("<f4")),
            None if overlay is None else PixelsDigest.of(overlay.picture),
            *beside,
        )


NOISE = Origin()
