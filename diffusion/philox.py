"""Standard normal numbers as torch's CUDA generator draws them: Philox, a counter put through ten rounds."""

import math
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from diffusion.arrays import Array

# 32-bit words, held in 64 bits for their products
Words: TypeAlias = npt.NDArray[np.uint64]

_ROUNDS = 10
_MULTIPLIERS = np.array([0xD2511F53, 0xCD9E8D57], np.uint64)
_KEY_STEPS = np.array([0x9E3779B9, 0xBB67AE85], np.uint64)
_BITS = np.uint64(32)
_WORD = np.uint64(2**32 - 1)
# numbers made at a time, few enough for a processor's cache
_AT_ONCE = 2**13


class PhiloxNormals:
    """The draws of `torch.randn(..., device="cuda")` from one seed, each of `size` values; A1111's source "NV".

    A CUDA card gives each value its own thread, and so these numbers, up to as many values as it holds threads: tens of
    thousands at least. Of more it makes up to four in a thread, and the numbers depend on the card; A1111's do not, nor
    do these.
    """

    def __init__(self, seed: int, size: int, before: int = 0) -> None:
        """The seed's two words are the key; where `before` is not 0, a draw of so many values came first."""
        self._key = _two_words(np.array(seed, np.uint64))
        self._size = size
        # every draw counts on by one, whatever its size
        self._first = 1 if before else 0

    def draw(self, number: int) -> Array:
        """Give the values of draw `number`, from 0, float32."""
        number += self._first
        starts = range(0, self._size, _AT_ONCE)
        return np.concatenate([self._part(number, start, min(start + _AT_ONCE, self._size)) for start in starts])

    def _part(self, number: int, start: int, end: int) -> Array:
        threads = np.arange(start, end, dtype=np.uint64)
        counter = (*_two_words(np.full_like(threads, number)), *_two_words(threads))
        radii, angles, _, _ = philox4x32(counter, self._key)
        return card_normals(radii, angles)


def _two_words(numbers: Words) -> tuple[Words, Words]:
    return numbers & _WORD, numbers >> _BITS


def philox4x32(counter: Sequence[Words], key: Sequence[Words]) -> tuple[Words, Words, Words, Words]:
    """Encrypt four words of counter with two words of key: Philox4x32-10 of Salmon et al. 2011."""
    first, second, third, fourth = counter
    left, right = key
    for _ in range(_ROUNDS):
        one, other = first * _MULTIPLIERS[0], third * _MULTIPLIERS[1]
        first, second = other >> _BITS ^ second ^ left, other & _WORD
        third, fourth = one >> _BITS ^ fourth ^ right, one & _WORD
        left, right = left + _KEY_STEPS[0] & _WORD, right + _KEY_STEPS[1] & _WORD
    return first, second, third, fourth


def card_normals(radii: Words, angles: Words) -> Array:
    """Turn words into normals (Box and Muller 1958), each from two: the sine, as cuRAND gives it first.

    The uniforms, in the middle of 2^32 steps, are rounded to float32 where cuRAND rounds them; the rest is exact.
    """
    step = np.float32(2.0**-32)
    uniforms = radii.astype(np.float32) * step + step / 2
    # cuRAND multiplies and adds with one rounding
    turn = float(step * np.float32(2 * math.pi))
    theta = (angles.astype(np.float32).astype(np.float64) * turn + turn / 2).astype(np.float32).astype(np.float64)
    return (np.sqrt(-2.0 * np.log(uniforms.astype(np.float64))) * np.sin(theta)).astype(np.float32)
