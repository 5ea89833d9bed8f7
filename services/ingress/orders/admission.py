"""How much may be in the house at a time, and whether anyone may still come in."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from services.errors import OverloadedError, UnavailableError
from services.keys.keyring import Caller


class Admission:
    """Counts the pictures admitted and not answered yet; one event loop uses it."""

    def __init__(self, most_images: int, on_change: Callable[[int], object]) -> None:
        """Admit up to `most_images`; `on_change` sees each new count."""
        self._most_images = most_images
        self._on_change = on_change
        self._images = 0
        self.draining = False

    @property
    def images(self) -> int:
        """The pictures admitted and not answered yet."""
        return self._images

    @contextmanager
    def admitted(self, images: int, who: Caller) -> Iterator[None]:
        """A block in which `images` more pictures are made for a caller.

        Raises:
            UnavailableError: the server is about to stop.
            OverloadedError: it would be more than may wait, or than the caller's key has left.
            PermissionDeniedError: the caller's key may never ask for so many at a time.
        """
        if self.draining:
            raise UnavailableError("the server is about to stop; ask another, or again later")
        if self._images + images > self._most_images:
            raise OverloadedError(
                f"{self._images} pictures are waiting or being made, {images} more would exceed {self._most_images}; "
                "try again later"
            )
        with who.admitted(images):
            self._count(images)
            try:
                yield
            finally:
                self._count(-images)

    def _count(self, images: int) -> None:
        self._images += images
        self._on_change(self._images)
