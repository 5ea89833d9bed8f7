"""What a caller can ask for that cannot be done."""


class RequestError(ValueError):
    """A request's field is outside its limits; the message names the field, the value and the limit.

    A prompt is never quoted. Both parts are the exception's `args`, so that it survives the way between processes.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(field, message)
        self.field = field
        self.message = message

    def __str__(self) -> str:
        return self.message


_LONGEST_VALUE = 60


class UnreadablePictureError(RequestError):
    """A file that a request brought is no picture, or none of those that are taken."""


def refuse(field: str, value: object, limit: str) -> RequestError:
    """Make the error `field=value: must be limit`, with a long value cut short."""
    return RequestError(field, f"{field}={_short(value)}: must be {limit}")


def _short(value: object) -> str:
    # a whole number of thousands of digits has no repr: Python refuses to make one
    if isinstance(value, int) and not -(10**_LONGEST_VALUE) < value < 10**_LONGEST_VALUE:
        return f"a number of {value.bit_length()} bits"
    # cut before repr, which would copy a text of any length
    if isinstance(value, str) and len(value) > _LONGEST_VALUE:
        return f"{value[:_LONGEST_VALUE]!r}..."
    return repr(value)[: _LONGEST_VALUE * 2]
