"""Where a store has its contents: a folder, or a bucket of S3, behind one interface."""

import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Protocol

from pydantic import AfterValidator, Field

from services.errors import StartError
from services.files.folder import Folder

_SEGMENT = "[A-Za-z0-9_][A-Za-z0-9_.-]*"
_BUCKET = re.compile(rf"s3://([a-z0-9][a-z0-9.-]{{1,61}}[a-z0-9])/?({_SEGMENT}(?:/{_SEGMENT})*)?/?")


class Blobs(Protocol):
    """Contents under names; usable from any number of threads. What fails is an OSError whose `strerror` tells why."""

    def sizes(self) -> dict[str, int]:
        """How many bytes there are under each name."""

    def read(self, name: str) -> bytes | None:
        """What is under a name, None where nothing is."""

    def write(self, name: str, content: bytes) -> None:
        """Put a content under a name, whole or not at all."""

    def remove(self, names: Collection[str]) -> None:
        """Let nothing be under these names any more; where nothing was, nothing is wrong."""


def _checked(place: str) -> str:
    if "://" not in place:
        # Ray starts replicas in folders of its own: a relative path would mean another place in each of them
        return str(Path(place).expanduser().absolute())
    if _BUCKET.fullmatch(place) is None:
        raise ValueError("must be a folder, or s3://BUCKET/PREFIX without credentials, which the AWS_* variables hold")
    return place


Place = Annotated[str, Field(min_length=1), AfterValidator(_checked)]


def open_blobs(place: str) -> Blobs:
    """What is in a place that `Place` has checked; a folder is made where there is none.

    Raises:
        ModuleNotFoundError: it is a bucket, and its library is not installed.
        OSError: it cannot be made or read.
    """
    found = _BUCKET.fullmatch(place)
    if found is None:
        return Folder(Path(place))
    # a library of its own, which those that have a folder need not have
    from services.files.bucket import Bucket

    return Bucket(found[1], found[2])


@contextmanager
def starting(name: str, place: str) -> Iterator[None]:
    """A part of a store's start, whose errors name the setting.

    Raises:
        StartError: the place cannot be made, read or written.
    """
    try:
        yield
    except ModuleNotFoundError:
        raise StartError(f"{name}.store={place}: needs obstore, of the extra s3: pip install '.[s3]'") from None
    except OSError as error:
        raise StartError(f"{name}.store={place}: {error.strerror}") from None
