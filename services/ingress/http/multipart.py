"""Reading a request's multipart form: bounded while it arrives, in memory and never on a disk."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from fastapi import Request
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from services.errors import ContentTypeError, OverloadedError, UnreadableBodyError
from services.ingress.http.body import MAX_BODY_BYTES, bounded
from services.ingress.http.media_types import MEDIA_TYPES

MULTIPART_TYPE = "multipart/form-data"
# what a form has around its files: the other fields, as long as a JSON body may be
_AROUND_BYTES = MAX_BODY_BYTES
_MOST_FIELDS = 64


@dataclass(frozen=True, slots=True, eq=False)
class Multipart:
    """The parts of a form, each by its name, in their order; a file by its bytes."""

    fields: tuple[tuple[str, str], ...]
    files: tuple[tuple[str, bytes], ...]


@dataclass(slots=True)
class Uploads:
    """Counts the requests whose files are in memory; one event loop uses it."""

    most: int = 8
    count: int = field(default=0, init=False)

    @contextmanager
    def taken(self) -> Iterator[None]:
        """A block in which one more request has files in memory.

        Raises:
            OverloadedError: that would be too many.
        """
        if self.count >= self.most:
            raise OverloadedError(
                f"{self.count} requests with pictures are in hand, which is the most; try again later"
            )
        self.count += 1
        try:
            yield
        finally:
            self.count -= 1


def picture_or_form(content_type: str | None) -> str:
    """The type of a body that is a picture's file, or a form that holds one.

    Raises:
        ContentTypeError: it is neither.
    """
    media_type = (content_type or "").split(";")[0].strip().lower()
    known = (*MEDIA_TYPES.values(), MULTIPART_TYPE)
    if media_type not in known:
        raise ContentTypeError(f"content-type: must be one of {', '.join(known)}")
    return media_type


async def read_multipart(request: Request, file_bytes: int, most_files: int) -> Multipart:
    """Read a form of at most `most_files` files, which have at most `file_bytes` bytes together.

    Raises:
        UnreadableBodyError: the body is no such form.
        BodyTooLargeError: it is longer.
        BodyTimeoutError: it does not come in time.
    """
    limit = file_bytes + _AROUND_BYTES
    parser = MultiPartParser(
        request.headers,
        bounded(request.stream(), request.headers.get("content-length"), limit),
        max_files=most_files,
        max_fields=_MOST_FIELDS,
        max_part_size=_AROUND_BYTES,
    )
    # so that nothing of a caller comes to a disk
    parser.spool_max_size = limit
    try:
        form = await parser.parse()
    except MultiPartException:
        raise UnreadableBodyError(
            f"the body must be a multipart form of at most {most_files} files and {_MOST_FIELDS} other fields"
        ) from None
    try:
        fields = tuple((name, part) for name, part in form.multi_items() if isinstance(part, str))
        files = [(name, await part.read()) for name, part in form.multi_items() if isinstance(part, UploadFile)]
        return Multipart(fields, tuple(files))
    finally:
        await form.close()
