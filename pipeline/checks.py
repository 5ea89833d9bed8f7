"""Checks of single fields, each with the error that names field, value and limit."""

from collections.abc import Mapping

from diffusion.errors import unknown_name
from pipeline.errors import RequestError, refuse


def check_name(field: str, name: str, choices: Mapping[str, object]) -> None:
    """Refuse what is not text, or no key of `choices`; raises RequestError listing them."""
    if not isinstance(name, str) or name not in choices:
        raise refuse(field, name, unknown_name(field, "", choices).limit)


def check_text(field: str, text: str, shortest: int, longest: int) -> None:
    """Refuse what is not text of that many characters, holds a NUL or is not Unicode; never quotes it."""
    if not isinstance(text, str):
        raise RequestError(field, f"{field}: is {type(text).__name__}, must be text")
    if not shortest <= len(text) <= longest:
        raise RequestError(field, f"{field}: has {len(text)} characters, must have {shortest} to {longest}")
    if "\0" in text:
        raise RequestError(field, f"{field}: holds a NUL character, which no text may")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise RequestError(field, f"{field}: is not valid Unicode at character {error.start}") from None


def check_whole(field: str, value: int, lowest: int, highest: int) -> None:
    """Refuse what is not a whole number from `lowest` to `highest`; raises RequestError."""
    # bool is an int to Python, and True would pass for 1
    if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
        raise refuse(field, value, f"a whole number between {lowest} and {highest}")


def check_number(field: str, value: float, highest: float) -> None:
    """Refuse what is not a number from 0 to `highest`; raises RequestError."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    # NaN lies between no two numbers, and the limit is finite
    if not number or not 0 <= value <= highest:
        raise refuse(field, value, f"a number between 0 and {highest:g}")
