"""A prompt's tokens: in chunks of what the text encoder reads at once, with marks and padding."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeAlias, TypeVar

from tokenizers import Encoding, Tokenizer

from components.errors import ComponentError
from pipeline.prompts.fragments import Section

# how CLIP's vocabularies write a comma that ends a word
_COMMA = ",</w>"

# A1111's `comma_padding_backtrack`
_FARTHEST_COMMA = 20


_Number = TypeVar("_Number", int, float)


class Token(NamedTuple):
    """A token's number and its weight."""

    id: int
    weight: float


Chunk: TypeAlias = Sequence[Token]


class PromptTokenizer:
    """Makes rows of `limit` token numbers, of which `room` are a text's own; usable from any number of threads."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Take a tokenizer that cuts and pads to one limit.

        Raises:
            ComponentError: its limit has no room for a letter between the marks.
        """
        truncation, padding = tokenizer.truncation, tokenizer.padding
        assert truncation is not None, "it cuts"
        assert padding is not None, "it pads"
        self._tokenizer = tokenizer
        self._pad, self._pads_left = int(padding["pad_id"]), padding["direction"] == "left"
        self.limit = int(truncation["max_length"])
        self._comma = tokenizer.token_to_id(_COMMA)
        self._before, self._after = _marks(tokenizer)
        self.room = self.limit - len(self._before) - len(self._after)

    def encodings(self, text: str) -> list[Encoding]:
        """A text as the tokenizer itself cuts, marks and pads it, chunk by chunk; at least one."""
        encoding = self._tokenizer.encode(text)
        return [encoding, *encoding.overflowing]

    def tokens(self, section: Section) -> list[Token]:
        """The tokens of each fragment, tokenised on its own, without marks and padding."""
        return [Token(id_, weight) for text, weight in section for id_ in self._ids(text)]

    def chunks(self, tokens: Sequence[Token]) -> list[Chunk]:
        """The tokens in chunks of `room`; at least one."""
        return [tokens[start : start + self.room] for start in range(0, max(1, len(tokens)), self.room)]

    def chunks_at_commas(self, sections: Iterable[Section]) -> list[Chunk]:
        """The sections in chunks of `room` at most, as A1111 cuts them; at least one.

        Each section begins a chunk, but for an empty last one. What follows a chunk's last comma goes to the next
        chunk, if that is no more than the last few tokens.
        """
        chunks: list[Chunk] = []
        *others, last = (self.tokens(section) for section in sections)
        for tokens in others:
            chunks += self._at_commas(tokens)
        return [*chunks, *self._at_commas(last)] if last or not chunks else chunks

    def row(self, chunk: Chunk) -> list[int]:
        """A chunk's token numbers, with marks and padding."""
        return self._filled([token.id for token in chunk], self._before, self._after, self._pad)

    def row_weights(self, chunk: Chunk) -> list[float]:
        """The weight of each number of a chunk's row; that of marks and padding is 1."""
        ones = [1.0] * self.limit
        weights = [token.weight for token in chunk]
        return self._filled(weights, ones[: len(self._before)], ones[: len(self._after)], 1.0)

    def _ids(self, text: str) -> list[int]:
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        parts = (encoding, *encoding.overflowing)
        return [id_ for part in parts for id_, own in zip(part.ids, part.attention_mask, strict=True) if own]

    def _at_commas(self, tokens: Sequence[Token]) -> list[Chunk]:
        chunks: list[Chunk] = []
        chunk: list[Token] = []
        comma: int | None = None
        for token in tokens:
            if len(chunk) == self.room:
                near = token.id != self._comma and comma is not None and self.room - comma <= _FARTHEST_COMMA
                cut = comma + 1 if near and comma is not None else self.room
                chunks.append(chunk[:cut])
                chunk, comma = chunk[cut:], None
            elif token.id == self._comma:
                comma = len(chunk)
            chunk.append(token)
        return [*chunks, chunk]

    def _filled(self, own: list[_Number], before: list[_Number], after: list[_Number], pad: _Number) -> list[_Number]:
        marked = before + own + after
        padding = [pad] * (self.limit - len(marked))
        return padding + marked if self._pads_left else marked + padding


def _marks(tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """What the tokenizer puts before and after a text.

    Raises:
        ComponentError: it makes no token of a letter within its limit.
    """
    encoding = tokenizer.encode("a")
    columns = zip(encoding.ids, encoding.special_tokens_mask, encoding.attention_mask, strict=True)
    read = [(id_, special) for id_, special, own in columns if own]
    text = [place for place, (_, special) in enumerate(read) if not special]
    if not text:
        raise ComponentError(f"tokenizer: its {len(read)} tokens of a letter are all marks")
    ids = [id_ for id_, _ in read]
    return ids[: text[0]], ids[text[-1] + 1 :]
