"""Conditioning that was made before, kept within a bound of bytes."""

import threading
from collections import OrderedDict
from hashlib import sha256
from typing import NamedTuple

import numpy as np

from pipeline.prompts.weighting import EncodedPrompt


class CacheFigures(NamedTuple):
    """What a cache did and holds: finds and misses since it began, prompts, and the bytes of their arrays."""

    hits: int
    misses: int
    prompts: int
    size: int


class ConditioningCache:
    """Keeps the prompts that were asked for last; usable from any number of threads at once.

    Whoever finds one shares its arrays, so they become read-only. Texts are known by their digest: none stays here
    longer than its request. Arrays that are not finite are not kept, so that a fault does not outlive its run.
    """

    def __init__(self, most_bytes: int) -> None:
        """Keep arrays of so many bytes at most; 0 keeps none."""
        self._most_bytes = most_bytes
        self._lock = threading.Lock()
        self._kept: OrderedDict[bytes, EncodedPrompt] = OrderedDict()
        self._size = self._hits = self._misses = 0

    @property
    def figures(self) -> CacheFigures:
        """What it did and holds by now."""
        with self._lock:
            return CacheFigures(self._hits, self._misses, len(self._kept), self._size)

    def find(self, key: bytes) -> EncodedPrompt | None:
        """What is kept under a key, counted as a hit or a miss."""
        with self._lock:
            found = self._kept.get(key)
            if found is None:
                self._misses += 1
            else:
                self._hits += 1
                self._kept.move_to_end(key)
            return found

    def keep(self, key: bytes, prompt: EncodedPrompt) -> None:
        """Make a prompt's arrays read-only and keep them; those unused the longest go where there is no room."""
        for array in prompt.arrays.values():
            array.flags.writeable = False
        size = _size(prompt)
        if size > self._most_bytes or not all(np.isfinite(array).all() for array in prompt.arrays.values()):
            return
        with self._lock:
            before = self._kept.pop(key, None)
            self._size += size - (0 if before is None else _size(before))
            self._kept[key] = prompt
            while self._size > self._most_bytes:
                _, oldest = self._kept.popitem(last=False)
                self._size -= _size(oldest)


def cache_key(text: str, weighting: str, chunks: int, clip_skip: int) -> bytes:
    """The key of a text weighed so, in so many chunks at most, by a layer."""
    return sha256(f"{weighting}\0{chunks}\0{clip_skip}\0{text}".encode()).digest()


def _size(prompt: EncodedPrompt) -> int:
    return sum(array.nbytes for array in prompt.arrays.values())
