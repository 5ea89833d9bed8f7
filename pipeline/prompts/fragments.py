"""A prompt as its brackets cut it: pieces of text with a weight each."""

from collections.abc import Iterable
from typing import NamedTuple, TypeAlias

from pipeline.errors import RequestError

# nobody means more, and float32 bears it
LARGEST_WEIGHT = 1000.0


class Fragment(NamedTuple):
    """A piece of text and the weight of its tokens; 1 leaves them as they are."""

    text: str
    weight: float


Section: TypeAlias = tuple[Fragment, ...]


def joined(fragments: Iterable[Fragment], glue: str) -> Section:
    """The fragments with neighbours of one weight made into one, `glue` between their texts."""
    runs: list[tuple[list[str], float]] = []
    for text, weight in fragments:
        if runs and runs[-1][1] == weight:
            runs[-1][0].append(text)
        else:
            runs.append(([text], weight))
    return tuple(Fragment(glue.join(texts), weight) for texts, weight in runs)


def check_weights(field: str, fragments: Iterable[Fragment]) -> None:
    """Refuse a weight that is beyond `LARGEST_WEIGHT` either way, or no number.

    Raises:
        RequestError: there is one.
    """
    for fragment in fragments:
        # NaN lies between no two numbers
        if not -LARGEST_WEIGHT <= fragment.weight <= LARGEST_WEIGHT:
            limits = f"between {-LARGEST_WEIGHT:g} and {LARGEST_WEIGHT:g}"
            raise RequestError(field, f"{field}: gives a part the weight {fragment.weight:g}, must be {limits}")
