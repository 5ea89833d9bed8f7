"""How much is measured."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Effort:
    """Of the three paths: their rounds, and the clients of the load on the server."""

    rounds: int
    at_once: int


@dataclass(frozen=True, slots=True)
class LoadEffort:
    """Of the mixed load: short requests in all, in how many rounds, and the pictures that a capacity is measured by."""

    shorts: int
    load_rounds: int = 4
    saturating: int = 100
