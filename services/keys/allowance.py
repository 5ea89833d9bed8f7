"""How much of what it may ask for a key has asked for: a token bucket of pictures, and those under way."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from services.errors import KeyLimitError, PermissionDeniedError
from services.keys.settings import KeyLimits

_MINUTE_S = 60.0


class Allowance:
    """What one name has left, in one ingress replica; one event loop uses it.

    `limits` may be put in place of others at any time; what was used counts on.
    """

    def __init__(self, limits: KeyLimits, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with a full bucket; `clock` is seconds from anywhere."""
        self.limits = limits
        self._clock = clock
        # of a bucket's pictures, those that were taken out and did not come back yet
        self._missing = 0.0
        self._looked = clock()
        self._under_way = 0

    @contextmanager
    def admitted(self, pictures: int) -> Iterator[None]:
        """A block in which so many more pictures are made.

        Raises:
            PermissionDeniedError: it is more than may ever be asked for at a time.
            KeyLimitError: it is more than is left just now.
        """
        self._require_possible(pictures)
        self._require_place(pictures)
        self._take(pictures)
        self._under_way += pictures
        try:
            yield
        finally:
            self._under_way -= pictures

    def _require_possible(self, pictures: int) -> None:
        limits = (("burst", self._burst), ("concurrent_pictures", self.limits.concurrent_pictures))
        for name, most in limits:
            if most is not None and pictures > most:
                raise PermissionDeniedError(
                    f"{pictures} pictures in one request: must be at most {most}, the {name} of this key"
                )

    def _require_place(self, pictures: int) -> None:
        most = self.limits.concurrent_pictures
        if most is not None and self._under_way + pictures > most:
            raise KeyLimitError(
                f"{self._under_way} pictures of this key are under way, {pictures} more would exceed {most}; "
                "try again later"
            )

    def _take(self, pictures: int) -> None:
        rate, burst = self.limits.pictures_per_minute, self._burst
        now = self._clock()
        passed, self._looked = now - self._looked, now
        if rate is None or burst is None:
            self._missing = 0.0
            return
        self._missing = min(float(burst), max(0.0, self._missing - passed * rate / _MINUTE_S))
        if (too_much := self._missing + pictures - burst) > 0:
            wait_s = math.ceil(too_much * _MINUTE_S / rate)
            raise KeyLimitError(
                f"this key may ask for {rate:g} pictures a minute, and has; try again in {wait_s} s", wait_s
            )
        self._missing += pictures

    @property
    def _burst(self) -> int | None:
        rate, burst = self.limits.pictures_per_minute, self.limits.burst
        if rate is None:
            return None
        return max(1, math.floor(rate)) if burst is None else burst
