"""What a caller can ask of the mathematics that it cannot do."""

from collections.abc import Iterable


class DiffusionError(ValueError):
    """A value outside its limits; the message names the field, the value and the limit.

    The three parts stay apart as attributes, so that a face can report the field by its own name. They are also the
    exception's `args`: an error with another constructor cannot be unpickled on the far side of a process.
    """

    def __init__(self, field: str, value: object, limit: str) -> None:
        super().__init__(field, value, limit)
        self.field = field
        self.value = value
        self.limit = limit

    def __str__(self) -> str:
        """Say the three parts as one sentence."""
        return f"{self.field}={self.value!r}: must be {self.limit}"


class UnknownNameError(DiffusionError):
    """A name that is in no table; the message lists the choices."""


class OverloadedError(DiffusionError):
    """More work than may wait; the same request can be admitted later."""


class DeadlineError(DiffusionError):
    """A deadline that would pass before the work is done."""


def unknown_name(field: str, value: str, choices: Iterable[str]) -> UnknownNameError:
    """Make the error that lists every choice, in alphabetical order."""
    return UnknownNameError(field, value, f"one of {', '.join(sorted(choices))}")


def require_integer(field: str, value: int, lowest: int, highest: int) -> None:
    """Raise DiffusionError unless `value` is a whole number from `lowest` to `highest`, both included."""
    # bool is an int to Python, and True would pass for one step
    if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
        raise DiffusionError(field, value, f"a whole number between {lowest} and {highest}")


def require_between(field: str, value: float, lowest: float, highest: float) -> None:
    """Raise DiffusionError unless `value` lies from `lowest` to `highest`, both included; NaN lies nowhere."""
    if not lowest <= value <= highest:
        raise DiffusionError(field, value, f"between {lowest:g} and {highest:g}")
