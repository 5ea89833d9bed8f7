"""Pictures that a signed link shows for a time, to whoever has the link."""

import base64
import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256

from services.errors import LinkExpiredError, LinkSignatureError
from services.files.blobs import Blobs, starting
from services.files.store import Dropped, FileStore, StoreSettings, end_of
from services.messages import PictureFormat

_KEY_NAME, _KEY_BYTES = "key", 32
_DIGEST_BYTES = sha256().digest_size


@dataclass(frozen=True, slots=True)
class Link:
    """A picture's name, the second since 1970 in which it ends, and the signature of the two."""

    name: str
    expires: int
    signature: str


class PictureStore:
    """Keeps each picture in a file of its own; usable from any number of threads of one process.

    Where a new one has no room the oldest go. Names and ends are signed by HMAC-SHA256 (RFC 2104) with a key that is
    beside them, so that links go on working after a restart.
    """

    def __init__(
        self,
        settings: StoreSettings,
        dropped: Callable[[Dropped], object],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Take over what is there; `dropped` learns of each that goes and why. `clock` is seconds since 1970.

        Raises:
            StartError: the place cannot be made, read or written.
        """
        self._files = FileStore(settings, "links", ".picture", dropped, clock)
        self._clock = clock
        with starting("links", settings.store):
            self._key = _key(self._files.blobs)

    @property
    def count(self) -> int:
        """How many pictures are kept."""
        return self._files.count

    @property
    def size(self) -> int:
        """What they take, in whole blocks."""
        return self._files.size

    def keep(self, data: bytes, format_: PictureFormat) -> Link:
        """Keep a picture's file, and return the link to it.

        Raises:
            FileNotKeptError: it is more than the store may hold at all, or its place does not take it.
        """
        id_ = self._files.keep(sha256(data).digest() + data)
        expires = end_of(id_)
        assert expires is not None, "the store makes ids"
        name = f"{id_}.{format_}"
        return Link(name, expires, self._signature(name, expires))

    def read(self, link: Link) -> bytes:
        """The file that a link names.

        Raises:
            LinkSignatureError: the link is none of ours.
            LinkExpiredError: its time is over, or the picture went before to make room, or is damaged.
            UnavailableError: the place cannot be read just now.
        """
        ours = self._signature(link.name, link.expires)
        if not hmac.compare_digest(ours.encode(), link.signature.encode("utf-8", "replace")):
            raise LinkSignatureError("signature: is not that of this link", "signature")
        if link.expires <= self._clock():
            raise LinkExpiredError("expires: the time of this link is over", "expires")
        id_ = link.name.partition(".")[0]
        content = self._files.read(id_)
        if content is None:
            raise _gone()
        digest, data = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
        if sha256(data).digest() != digest:
            self._files.damaged(id_, "its digest differs")
            raise _gone()
        return data

    def sweep(self) -> None:
        """Remove what has ended, and the oldest of what is too much.

        Raises:
            OSError: the place does not let go of a file.
        """
        self._files.sweep()

    def _signature(self, name: str, expires: int) -> str:
        signed = f"{name}\n{expires}".encode("utf-8", "replace")
        return base64.urlsafe_b64encode(hmac.digest(self._key, signed, sha256)).rstrip(b"=").decode()


def _key(blobs: Blobs) -> bytes:
    """The key that is there; a new one where there is none, or not a whole one.

    Raises:
        OSError: it can be neither read nor written.
    """
    key = blobs.read(_KEY_NAME)
    if key is None or len(key) != _KEY_BYTES:
        key = secrets.token_bytes(_KEY_BYTES)
        blobs.write(_KEY_NAME, key)
    return key


def _gone() -> LinkExpiredError:
    return LinkExpiredError("the picture of this link is not kept any more")
