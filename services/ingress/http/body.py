"""Reading a request's JSON body: bounded while it arrives, and strict about what JSON is."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterable
from typing import Any

from services.errors import BodyTimeoutError, BodyTooLargeError, ContentTypeError, UnreadableBodyError

MAX_BODY_BYTES = 2**20
# with pictures in base64, which is a third longer than the 64 MiB that it stands for
MAX_PICTURES_BYTES = 88 * 2**20
MOST_S = 60.0
JSON_TYPE = "application/json"
_BYTE_ORDER_MARK = "\ufeff"


def require_json_type(content_type: str | None) -> None:
    """Raise ContentTypeError unless a Content-Type header says JSON, in UTF-8 where it names a charset."""
    media_type, *parameters = (part.strip().lower() for part in (content_type or "").split(";"))
    charsets = {part.removeprefix("charset=").strip('"') for part in parameters if part.startswith("charset=")}
    if media_type != JSON_TYPE or not charsets <= {"utf-8", "utf8"}:
        raise ContentTypeError(f"content-type: must be {JSON_TYPE} in UTF-8")


async def read_body(chunks: AsyncIterable[bytes], announced: str | None, limit: int = MAX_BODY_BYTES) -> bytes:
    """Collect a body of at most `limit` bytes; `announced` is the Content-Length header, if one came.

    Raises:
        BodyTooLargeError: it is, or says that it will be, longer.
        BodyTimeoutError: it does not come in time.
    """
    body = bytearray()
    async for chunk in bounded(chunks, announced, limit):
        body += chunk
    return bytes(body)


async def bounded(chunks: AsyncIterable[bytes], announced: str | None, limit: int) -> AsyncGenerator[bytes, None]:
    """Pass on a body of at most `limit` bytes as it arrives; `announced` as in `read_body`.

    Raises:
        BodyTooLargeError, BodyTimeoutError: as `read_body`.
    """
    if announced is not None and announced.isdecimal():
        # Python reads no number of more than 4,300 digits
        digits = announced.lstrip("0")
        if len(digits) > len(str(limit)) or int(announced) > limit:
            raise _too_large(limit)
    size, arriving = 0, aiter(chunks)
    until = asyncio.get_running_loop().time() + MOST_S
    while True:
        try:
            async with asyncio.timeout_at(until):
                chunk = await anext(arriving)
        except StopAsyncIteration:
            return
        except TimeoutError:
            # whoever sends a little at a time would keep the place of others
            raise BodyTimeoutError(f"the body must come within {MOST_S:g} seconds") from None
        size += len(chunk)
        if size > limit:
            raise _too_large(limit)
        yield chunk


def parse_object(body: bytes) -> dict[str, Any]:
    """Read one JSON object as RFC 8259 has it: UTF-8 without a byte order mark, finite numbers, every key once.

    Raises:
        UnreadableBodyError: it is anything else; the message quotes nothing of it.
    """
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UnreadableBodyError(f"the body is not UTF-8: byte {error.start} does not fit") from None
    if text.startswith(_BYTE_ORDER_MARK):
        raise UnreadableBodyError("the body starts with a byte order mark; JSON has none")
    try:
        parsed = json.loads(text, object_pairs_hook=_once_each, parse_constant=_no_constant, parse_float=_finite)
    except json.JSONDecodeError as error:
        raise UnreadableBodyError(f"the body is not JSON: {error.msg} at character {error.pos}") from None
    except RecursionError:
        raise UnreadableBodyError("the body is nested too deeply") from None
    except ValueError:
        # Python reads no whole number of more than 4,300 digits
        raise UnreadableBodyError("the body holds a number with too many digits") from None
    if not isinstance(parsed, dict):
        raise UnreadableBodyError("the body must be one JSON object")
    return parsed


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise UnreadableBodyError("the body names a field twice")
    return members


def _no_constant(name: str) -> float:
    raise UnreadableBodyError(f"the body holds {name}, which is not JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if number in (float("inf"), float("-inf")):
        raise UnreadableBodyError("the body holds a number too large for a float")
    return number


def _too_large(limit: int) -> BodyTooLargeError:
    return BodyTooLargeError(f"the body must have at most {limit} bytes")
