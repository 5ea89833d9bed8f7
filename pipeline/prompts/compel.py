"""The prompt grammar of the package Compel: signs and numbers behind words, brackets and quotes.

`word+` and `(a phrase)+` count 1.1 times as much, each further `+` again; `-` is 0.9; `(a phrase)1.3` and
`"a phrase"1.3` say a number; brackets within brackets multiply. What is not written so is text, a bracket without its
partner too. Compel's operators are refused: they are more than one prompt, or other networks.
"""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeAlias

from pipeline.errors import RequestError
from pipeline.prompts.fragments import Fragment, Section, check_weights, joined

# far below where Python stops to call
DEEPEST = 50

# each costs an encoding of the whole prompt
MOST_LOWERED = 16

_STRONGER, _WEAKER = 1.1, 0.9

_OPERATOR = re.compile(r"\.(?:and|add|blend|swap|attend)(?=\s*\()|\b(?:use|with)Lora(?=\s*\()")
_BLANKS = re.compile(r"[ \t\n\r\v\f]*+")
_ANY_WORD = re.compile(r"[^ \t\n\r\v\f]++")
# without a mark of the grammar that is not escaped; a sign within a word is part of it
_WORD = re.compile(r'(?:\\[()",.+\-=]|[-+](?![\s()",.+\-=]|\Z)|[^ \t\n\r\v\f()",.+\-=])++')
_QUOTED = re.compile(r'"((?:\\"|[^"\n\r])*)"')
_SIGNS = re.compile(r"\++|-+")
_NUMBER = re.compile(r"\d++\.\d*+|\.\d++|\d++")
_TIGHT_COMMA = re.compile(r",(\S)")
# Compel takes a backslash off twice
_ESCAPED = re.compile(r'\\{1,2}([()"])')


class _Weighed(NamedTuple):
    """Parts of a prompt that one bracket or sign holds, and what it multiplies their weights by."""

    factor: float
    parts: "Sequence[_Part]"


_Part: TypeAlias = str | _Weighed


class _Found(NamedTuple):
    """What was read, and where it ends."""

    part: _Weighed
    end: int


def read(field: str, text: str) -> tuple[Section, ...]:
    """The one section of a prompt, in fragments.

    Raises:
        RequestError: it holds an operator, brackets more than `DEEPEST` deep, or more than `MOST_LOWERED` parts of a
            weight below 1, or a weight is beyond its limits.
    """
    if match := _OPERATOR.search(text):
        raise RequestError(field, f"{field}: holds {match[0]}(), an operator of Compel's that is not served")
    # as Compel does, so that what follows a comma is a word of its own
    reader = _Reader(field, _TIGHT_COMMA.sub(r", \1", text))
    section = joined(_flat(reader.prompt(), 1.0), " ")
    check_weights(field, section)
    lowered = sum(fragment.weight < 1 for fragment in section)
    if lowered > MOST_LOWERED:
        raise RequestError(field, f"{field}: lowers the weight of {lowered} parts, must be at most {MOST_LOWERED}")
    return (section,)


def _flat(parts: Sequence[_Part], weight: float) -> Iterator[Fragment]:
    for part in parts:
        if isinstance(part, str):
            yield Fragment(_ESCAPED.sub(r"\1", part), weight)
        else:
            yield from _flat(part.parts, weight * part.factor)


class _Reader:
    """Reads a text; it remembers what begins with each bracket and quote, so that the time grows as the length does."""

    def __init__(self, field: str, text: str) -> None:
        self._field = field
        self._text = text
        self._groups: dict[int, _Found | None] = {}

    def prompt(self) -> list[_Part]:
        """The parts of the whole text: what is no part by the grammar is a word of any signs."""
        parts: list[_Part] = []
        at = self._after_blanks(0)
        while at < len(self._text):
            found = self._group(at, 0) or self._signed_word(at)
            if found is None:
                word = _ANY_WORD.match(self._text, at)
                assert word is not None, "blanks were skipped"
                parts.append(word[0])
                at = word.end()
            else:
                parts.append(found.part)
                at = found.end
            at = self._after_blanks(at)
        return parts

    def inside(self, at: int, depth: int) -> tuple[list[_Part], int]:
        """The parts from there on as they may stand in brackets, and where they end."""
        parts: list[_Part] = []
        while True:
            at = self._after_blanks(at)
            found = self._group(at, depth) or self._signed_word(at)
            if found is not None:
                parts.append(found.part)
                at = found.end
            elif word := _WORD.match(self._text, at):
                parts.append(word[0])
                at = word.end()
            elif self._text[at : at + 1] in (",", "."):
                parts.append(self._text[at])
                at += 1
            else:
                return parts, at

    def _group(self, at: int, depth: int) -> _Found | None:
        first = self._text[at : at + 1]
        if first not in ("(", '"'):
            return None
        if at not in self._groups:
            if depth == DEEPEST:
                raise RequestError(self._field, f"{self._field}: has brackets over {DEEPEST} deep, which is the limit")
            self._groups[at] = self._bracketed(at, depth) if first == "(" else self._quoted(at, depth)
        return self._groups[at]

    def _bracketed(self, at: int, depth: int) -> _Found | None:
        parts, end = self.inside(at + 1, depth + 1)
        return self._with_factor(parts, end + 1) if self._text[end : end + 1] == ")" else None

    def _quoted(self, at: int, depth: int) -> _Found | None:
        match = _QUOTED.match(self._text, at)
        if match is None:
            return None
        # a quote within is escaped, and stays so: it is text
        parts, end = _Reader(self._field, match[1]).inside(0, depth)
        return self._with_factor(parts, match.end()) if end == len(match[1]) else None

    def _with_factor(self, parts: list[_Part], at: int) -> _Found:
        if signs := _SIGNS.match(self._text, at):
            return _Found(_Weighed(_factor(signs[0]), parts), signs.end())
        if number := _NUMBER.match(self._text, at):
            return _Found(_Weighed(float(number[0]), parts), number.end())
        return _Found(_Weighed(1.0, parts), at)

    def _signed_word(self, at: int) -> _Found | None:
        word = _WORD.match(self._text, at)
        signs = None if word is None else _SIGNS.match(self._text, word.end())
        if word is None or signs is None:
            return None
        return _Found(_Weighed(_factor(signs[0]), [word[0]]), signs.end())

    def _after_blanks(self, at: int) -> int:
        blanks = _BLANKS.match(self._text, at)
        assert blanks is not None, "it matches nothing too"
        return blanks.end()


def _factor(signs: str) -> float:
    # a float has no room for thousands of signs, and neither has the limit
    return float((_STRONGER if signs[0] == "+" else _WEAKER) ** min(len(signs), 1000))
