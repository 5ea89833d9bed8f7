"""The keys that are let in, and who comes with each."""

import hmac
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from services.keys.allowance import Allowance
from services.keys.records import ROLES, KeyRecord, Role, digest_of
from services.keys.settings import KeyLimits


@dataclass(frozen=True, slots=True, eq=False)
class Caller:
    """Whoever sent a request: `tenant` is the name of its key, empty where no keys are asked for."""

    tenant: str = ""
    roles: frozenset[Role] = ROLES
    allowance: Allowance = field(default_factory=lambda: Allowance(KeyLimits()))

    def share_of(self, user: str) -> str:
        """Whose share of the denoiser a request takes: its key's, however many users that names; else its user's."""
        return self.tenant or user

    def owner_of(self, user: str) -> str:
        """Whose the latents are that a request keeps: no other key's, and within a key its user's."""
        # no name has a slash, so no two pairs come to one text
        return f"{self.tenant}/{user}" if self.tenant else user

    @contextmanager
    def admitted(self, pictures: int) -> Iterator[None]:
        """A block in which so many more pictures are made for it.

        Raises:
            PermissionDeniedError: it is more than its key may ever ask for at a time.
            KeyLimitError: it is more than its key has left just now.
        """
        with self.allowance.admitted(pictures):
            yield


ANYBODY = Caller()


class Keyring:
    """Knows keys by their digests; used from one event loop only."""

    def __init__(self, records: Sequence[KeyRecord], clock: Callable[[], float] = time.monotonic) -> None:
        """Let in the keys of `records`; `clock` is that of the allowances."""
        self._clock = clock
        self._allowances: dict[str, Allowance] = {}
        self._known: list[tuple[bytes, Caller]] = []
        self.replace(records)

    def __len__(self) -> int:
        return len(self._known)

    def replace(self, records: Sequence[KeyRecord]) -> None:
        """Let in these keys and no others; what a name has used of its limits counts on."""
        before, self._allowances, self._known = self._allowances, {}, []
        for record in records:
            name = record.name
            # two keys of one name share what it may ask for
            allowance = self._allowances.get(name) or before.get(name) or Allowance(record.limits, self._clock)
            allowance.limits = record.limits
            self._allowances[name] = allowance
            self._known.append((record.digest, Caller(name, record.roles, allowance)))

    def find(self, key: bytes) -> Caller | None:
        """Who comes with a key, None where it is none of these."""
        digest, found = digest_of(key), None
        # all of them, whichever it is: how long it takes must tell nothing
        for known, caller in self._known:
            if hmac.compare_digest(known, digest):
                found = caller
        return found
