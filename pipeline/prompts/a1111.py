"""The prompt grammar of A1111's web UI: brackets that weigh, and BREAK.

`(word)` counts 1.1 times as much, `[word]` 1/1.1 times, `(word:1.3)` 1.3 times, and brackets within brackets multiply.
A bracket without its partner counts to the end of the text, or is text where it closes nothing; a backslash before a
bracket or a backslash makes it text, and before anything else is dropped. BREAK, a word of its own, ends a chunk.
"""

import re

import numpy as np

from pipeline.prompts.fragments import Fragment, Section, check_weights, joined

_STRONGER, _WEAKER = 1.1, 1 / 1.1

# possessive, so that no text takes longer than its length
_PIECE = re.compile(
    r"\\(?P<escaped>[()\[\]\\]?)"
    r"|:\s*+(?P<weight>[+-]?(?:\d++(?:\.\d*+)?|\.\d++))\s*+\)"
    r"|(?P<bracket>[()\[\]])"
    r"|(?P<text>:|[^\\()\[\]:]++)"
)
_BREAK = re.compile(r"\bBREAK\b")


def read(field: str, text: str) -> tuple[Section, ...]:
    """The sections of a prompt between its BREAKs, each in fragments.

    Raises:
        RequestError: a weight is beyond its limits.
    """
    sections = parse(text)
    for section in sections:
        check_weights(field, section)
    return sections


def parse(text: str) -> tuple[Section, ...]:
    """The sections of any text whatever, its weights unchecked; a bracket that a BREAK divides weighs both sides.

    Weights are multiplied from the inside out, as A1111 does, to its last bit. A1111 takes a BREAK within brackets for
    a word; here it breaks as everywhere else. Its numbers are digits and a dot: `(x:nan)` and `(x:1e9)` are text.
    """
    pieces: list[str | None] = []
    # from, to, factor, in the order in which brackets close
    spans: list[tuple[int, int, float]] = []
    opened: dict[str, list[int]] = {"(": [], "[": []}
    for match in _PIECE.finditer(text):
        kind, found = match.lastgroup, match[0]
        if kind == "escaped":
            pieces.append(match["escaped"])
        elif found in opened:
            opened[found].append(len(pieces))
        elif found == "]" and opened["["]:
            spans.append((opened["["].pop(), len(pieces), _WEAKER))
        elif found[-1] == ")" and opened["("]:
            factor = _STRONGER if kind == "bracket" else float(match["weight"])
            spans.append((opened["("].pop(), len(pieces), factor))
        else:
            pieces += _at_breaks(found)
    for bracket, factor in (("(", _STRONGER), ("[", _WEAKER)):
        spans += [(start, len(pieces), factor) for start in opened[bracket]]
    return _sections(pieces, spans)


def _at_breaks(text: str) -> list[str | None]:
    """The text between its BREAKs, without the blanks beside them; each BREAK is None."""
    first, *others = _BREAK.split(text)
    parts: list[str | None] = [first.rstrip() if others else first]
    for left, part in enumerate(others, 1 - len(others)):
        parts += [None, part.strip() if left else part.lstrip()]
    return parts


def _sections(pieces: list[str | None], spans: list[tuple[int, int, float]]) -> tuple[Section, ...]:
    weights = np.ones(len(pieces))
    # a thousand brackets overflow, and what comes of it is refused by name
    with np.errstate(over="ignore", invalid="ignore"):
        for start, stop, factor in spans:
            weights[start:stop] *= factor
    sections: list[list[Fragment]] = [[]]
    for piece, weight in zip(pieces, weights.tolist(), strict=True):
        if piece is None:
            sections.append([])
        elif piece:
            sections[-1].append(Fragment(piece, weight))
    return tuple(joined(section, "") for section in sections)
