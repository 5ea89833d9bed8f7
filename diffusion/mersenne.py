"""Standard normal numbers as torch's CPU generator draws them: the Mersenne Twister, in torch's order of filling."""

import math

import numpy as np
import numpy.typing as npt

from diffusion.arrays import Array, Table

Words = npt.NDArray[np.uint64]

# torch fills fewer values than one block one by one, and all others block by block
_BLOCK = 16
_HALF = _BLOCK // 2
_WORDS_A_PAIR = 4


class MersenneTwister:
    """The 32-bit words that follow one seed (Matsumoto and Nishimura 1998), from any place on."""

    def __init__(self, seed: int) -> None:
        """Take the seed as torch does: modulo 2^32."""
        self._seed = seed % 2**32
        self._bits = np.random.MT19937(0)
        self._place = 0
        self._restart()

    def words(self, start: int, count: int) -> Words:
        """Read `count` words from number `start` on; cheap where the last reading ended, and else by skipping."""
        if start < self._place:
            self._restart()
        self._bits.random_raw(start - self._place, output=False)
        self._place = start + count
        return self._bits.random_raw(count)

    def _restart(self) -> None:
        # NumPy's legacy seeding is the one of the paper, as torch's is; the newer seeding of MT19937 itself is not
        np.random.RandomState(self._bits).seed(self._seed)
        self._place = 0


class TorchNormals:
    """The draws of `torch.randn` from `torch.Generator("cpu").manual_seed(seed)`, each of `size` values.

    Where `before` is not 0, a draw of so many values came first; both are of a block at least then.
    """

    def __init__(self, seed: int, size: int, before: int = 0) -> None:
        """Seed the generator."""
        self._twister = MersenneTwister(seed)
        self._size = size
        self._before = before + _rest(before)

    def draw(self, number: int) -> Array:
        """Give the values of draw `number`, from 0, float32; drawn in turn, none is computed twice."""
        return self._few(number) if self._size < _BLOCK else self._many(number)

    def _many(self, number: int) -> Array:
        size = self._size
        # a last block that would stand over is moved back to the end, and filled once more with fresh words
        rest = _rest(size)
        start = self._before + number * (size + rest)
        uniforms = single_uniforms(self._twister.words(start, size + rest))
        if not rest:
            return block_normals(uniforms)
        whole = size - size % _BLOCK
        return np.concatenate([block_normals(uniforms[:whole])[: size - _BLOCK], block_normals(uniforms[size:])])

    def _few(self, number: int) -> Array:
        # values come in pairs, and a draw of an odd size leaves the second of its last pair to the next draw
        first = number * self._size
        last = first + self._size
        pairs = (last + 1) // 2 - first // 2
        words = self._twister.words(first // 2 * _WORDS_A_PAIR, pairs * _WORDS_A_PAIR)
        return pair_normals(double_uniforms(words))[first % 2 :][: self._size]


def _rest(size: int) -> int:
    """How many words more than values a draw takes."""
    return _BLOCK if size % _BLOCK else 0


def single_uniforms(words: Words) -> Array:
    """Make each word a multiple of 2^-24 in [0, 1), float32."""
    return (words & (2**24 - 1)).astype(np.float32) * np.float32(2.0**-24)


def double_uniforms(words: Words) -> Table:
    """Make each two words, the higher first, a multiple of 2^-53 in [0, 1)."""
    high, low = words.reshape(-1, 2).T
    return ((high << 32 | low) & (2**53 - 1)).astype(np.float64) * 2.0**-53


def block_normals(uniforms: Array) -> Array:
    """Turn blocks of 16 uniforms into normals (Box and Muller 1958): 8 radii, then 8 angles; 8 cosines, then 8 sines.

    Within 5e-7 of torch on a processor with AVX2, whose angles are rounded to float32 as here. Elsewhere torch rounds
    them otherwise, and is up to 3e-6 off.
    """
    radii, angles = uniforms.reshape(-1, 2, _HALF).transpose(1, 0, 2)
    # in float64 the results, rounded, are the same with any SIMD instructions
    radius = np.sqrt(-2.0 * np.log(1.0 - radii.astype(np.float64)))
    theta = (angles * np.float32(2 * math.pi)).astype(np.float64)
    normals = np.empty((len(radius), 2, _HALF), np.float32)
    normals[:, 0] = radius * np.cos(theta)
    normals[:, 1] = radius * np.sin(theta)
    return normals.reshape(-1)


def pair_normals(uniforms: Table) -> Array:
    """Turn pairs of uniforms, angle and radius, into pairs of normals, cosine and sine: torch's way for few values."""
    angles, radii = uniforms.reshape(-1, 2).T
    radius = np.sqrt(-2.0 * np.log1p(-radii))
    theta = 2.0 * math.pi * angles
    return np.stack([radius * np.cos(theta), radius * np.sin(theta)], axis=1).astype(np.float32).reshape(-1)
