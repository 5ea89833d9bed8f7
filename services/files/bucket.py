"""Contents in a bucket of S3, or of what speaks its protocol, an object for each."""

import errno
import os
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING

from obstore.exceptions import BaseError
from obstore.store import S3Store

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

# of one request, which is tried once more; an endpoint's own address says whether it is by TLS
_CLIENT: "ClientConfig" = {
    "allow_http": True,
    "connect_timeout": timedelta(seconds=3),
    "timeout": timedelta(seconds=10),
}
_RETRY: "RetryConfig" = {"max_retries": 1, "retry_timeout": timedelta(seconds=10)}
_ENDPOINT = re.compile(r"https?://[A-Za-z0-9.\[\]:-]+(/[A-Za-z0-9._/-]*)?")
_CODE = re.compile(r"<Code>([A-Za-z0-9]{1,64})</Code>")
_STATUS = re.compile(r"status code: (\d{3})\b")


class Bucket:
    """What is in a bucket under a prefix; endpoint, region and credentials are what the AWS_* variables say."""

    def __init__(self, name: str, prefix: str | None) -> None:
        """Ask nothing yet.

        Raises:
            OSError: an AWS_* variable cannot be used.
        """
        # the library would panic, which is no Exception
        for variable, value in os.environ.items():
            if variable.startswith("AWS_ENDPOINT") and _ENDPOINT.fullmatch(value) is None:
                raise OSError(errno.EINVAL, f"{variable} must be http:// or https:// and a host")
        with _told():
            self._store = S3Store(name, prefix=prefix, client_options=_CLIENT, retry_config=_RETRY)

    def sizes(self) -> dict[str, int]:
        """How many bytes there are under each name."""
        with _told():
            return {one["path"]: one["size"] for some in self._store.list() for one in some}

    def read(self, name: str) -> bytes | None:
        """What is under a name, None where nothing is."""
        try:
            with _told():
                return self._store.get(name).bytes().to_bytes()
        except FileNotFoundError:
            return None

    def write(self, name: str, content: bytes) -> None:
        """Put a content under a name, whole or not at all."""
        try:
            with _told():
                # in parts it could be left half there, unseen and paid for
                self._store.put(name, content, use_multipart=False)
        except TimeoutError:
            # it may have been taken all the same
            with suppress(OSError):
                self.remove([name])
            raise

    def remove(self, names: Collection[str]) -> None:
        """Let nothing be under these names any more."""
        if names:
            with _told():
                self._store.delete(list(names))


@contextmanager
def _told() -> Iterator[None]:
    """Tell of an error in our own words: the library's hold addresses and answers, and those the keys' ids.

    Raises:
        FileNotFoundError: the service says that there is no such object, or bucket.
        TimeoutError: nobody answered.
        OSError: the service says anything else.
    """
    try:
        yield
    except (BaseError, OSError) as error:
        code, status = _CODE.search(str(error)), _STATUS.search(str(error))
        said = code or status
        if isinstance(error, FileNotFoundError):
            raise FileNotFoundError(errno.ENOENT, f"S3 says {said[1] if said else 'NotFound'}") from None
        if said is not None:
            raise OSError(errno.EIO, f"S3 says {said[1]}") from None
        raise TimeoutError(errno.ETIMEDOUT, "S3 cannot be reached as the AWS_* variables say") from None
