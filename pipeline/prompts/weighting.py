"""The ways to weigh the parts of a prompt: each a grammar, and what it makes of the text encoder's runs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TypeAlias

import numpy as np

from components.messages import Arrays, FloatArray
from pipeline.checks import check_name
from pipeline.prompts import a1111, compel
from pipeline.prompts.emphasis import blended, moved_from_empty, scaled, share_without
from pipeline.prompts.tokens import Chunk, PromptTokenizer, Token

# rows of token numbers to arrays [rows, tokens, width], or [rows, width] of whole texts, which nothing weighs
Run: TypeAlias = Callable[[Sequence[Sequence[int]]], Arrays]


@dataclass(frozen=True, slots=True, eq=False)
class EncodedPrompt:
    """One prompt's conditioning, its arrays [chunks, tokens, width] or [chunks, width], no more chunks than it has.

    `truncated` says whether its end was cut off, `tokens` counts what was read, without marks and padding.
    """

    arrays: Arrays
    truncated: bool
    tokens: int

    @property
    def chunks(self) -> int:
        """How many chunks it has; each tokenizer's arrays may have fewer."""
        return max(map(len, self.arrays.values()))

    @property
    def chunks_at_least(self) -> int:
        """How many chunks every array has."""
        return min(map(len, self.arrays.values()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighting:
    """A way to weigh: `check` refuses a field's text, `encode` takes a text, and its chunks at most."""

    check: Callable[[str, str], object]
    encode: Callable[[PromptTokenizer, Run, str, int], EncodedPrompt]


def side_by_side(prompts: Sequence[EncodedPrompt]) -> EncodedPrompt:
    """One prompt as several tokenizers had it encoded, each to other arrays; the first one counts its tokens."""
    first, *others = prompts
    if not others:
        return first
    arrays = {name: array for prompt in prompts for name, array in prompt.arrays.items()}
    return EncodedPrompt(arrays, any(prompt.truncated for prompt in prompts), first.tokens)


def check_prompt(field: str, text: str, weighting: str) -> None:
    """Refuse a weighting that is none, or a text that cannot be weighed so.

    Raises:
        RequestError: either is the case; it names `weighting` or `field`, and never quotes the text.
    """
    check_name("weighting", weighting, WEIGHTINGS)
    WEIGHTINGS[weighting].check(field, text)


def _any_text(field: str, text: str) -> None:
    """Brackets are text."""


def _plain(tokenizer: PromptTokenizer, run: Run, text: str, most: int) -> EncodedPrompt:
    encodings = tokenizer.encodings(text)
    kept = encodings[:most]
    tokens = sum(part.special_tokens_mask.count(0) for part in kept)
    return EncodedPrompt(run([part.ids for part in kept]), len(encodings) > most, tokens)


def _a1111(tokenizer: PromptTokenizer, run: Run, text: str, most: int) -> EncodedPrompt:
    chunks = tokenizer.chunks_at_commas(a1111.read("prompt", text))
    kept = chunks[:most]
    weights = _weights(tokenizer, kept)
    arrays = run([tokenizer.row(chunk) for chunk in kept])
    weighed = {name: array if array.ndim == 2 else scaled(array, weights) for name, array in arrays.items()}
    return EncodedPrompt(weighed, len(chunks) > most, sum(map(len, kept)))


def _compel(tokenizer: PromptTokenizer, run: Run, text: str, most: int) -> EncodedPrompt:
    [section] = compel.read("prompt", text)
    parts = [tokenizer.tokens((fragment,)) for fragment in section]
    chunks = tokenizer.chunks(_all(parts))
    count = min(most, len(chunks))
    empty = run([tokenizer.row(())])

    def encode(parts: Sequence[Sequence[Token]]) -> Arrays:
        kept = [*tokenizer.chunks(_all(parts)), *[()] * count][:count]
        weights = _weights(tokenizer, kept)
        arrays = run([tokenizer.row(chunk) for chunk in kept])
        return {
            name: array if array.ndim == 2 else moved_from_empty(array, empty[name], weights)
            for name, array in arrays.items()
        }

    variants, shares = [encode(parts)], [1.0]
    for index, fragment in enumerate(section):
        # a part that is cut off has nothing to be blended out
        if fragment.weight < 1 and len(_all(parts[:index])) < count * tokenizer.room:
            variants.append(encode(parts[:index] + parts[index + 1 :]))
            shares.append(share_without(fragment.weight))
    whole = variants[0]
    blend = {
        name: array if array.ndim == 2 else blended([arrays[name] for arrays in variants], shares)
        for name, array in whole.items()
    }
    return EncodedPrompt(blend, len(chunks) > most, sum(map(len, chunks[:count])))


def _all(parts: Sequence[Sequence[Token]]) -> list[Token]:
    return list(chain.from_iterable(parts))


def _weights(tokenizer: PromptTokenizer, chunks: Sequence[Chunk]) -> FloatArray:
    return np.array([tokenizer.row_weights(chunk) for chunk in chunks], np.float32)


WEIGHTINGS = {
    "none": Weighting(check=_any_text, encode=_plain),
    "a1111": Weighting(check=a1111.read, encode=_a1111),
    "compel": Weighting(check=compel.read, encode=_compel),
}
