"""The versions of one stage that a replica holds open: counted, bounded, and never closed under a call."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from components.errors import ComponentError
from components.folder import ComponentFolder
from components.reference import ComponentRef
from registry.errors import RegistryAwayError, RegistryError
from runtime.errors import RuntimeFault
from services.errors import ServingError, StartError, UnavailableError
from services.messages import PassesWith, VersionReport

Stage = TypeVar("Stage")

# a version that could not be opened is tried again after this long, while it is wanted
_RETRY_S = 10.0
_HALF = 2


class VersionBounds(BaseModel):
    """How much one replica holds: `most` versions, and `most_bytes` of weights as they are computed with."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    most: int = Field(4, ge=2)
    most_bytes: int = Field(32 * 2**30, ge=1)


class Fetched(NamedTuple):
    """A version's files on this machine, and what keeps them there."""

    folder: ComponentFolder
    lease: object


@dataclass(slots=True, eq=False)
class _Held(Generic[Stage]):
    """A version that is being opened or open; `size` is known once its files are here, and 0 before.

    While `lease` is there nobody tidies the files away.
    """

    opening: "asyncio.Task[Stage]"
    users: int = 0
    used: int = 0
    size: int = 0
    lease: object = None
    seconds: float = 0.0
    open: bool = False


@dataclass(frozen=True, slots=True)
class _Failure:
    reason: str
    at: float
    passes_with: PassesWith | None


class HeldVersions(Generic[Stage]):
    """Opens each pinned version once, off the event loop; used from one event loop only.

    What a call uses stays. When there is no room the longest unused goes; what is wanted goes only for what is wanted
    more.
    """

    def __init__(
        self,
        fetch: Callable[[ComponentRef], Fetched],
        open_stage: Callable[[ComponentRef, ComponentFolder, bool], Stage],
        bounds: VersionBounds,
        on_change: Callable[[Mapping[ComponentRef, int]], object] = lambda _sizes: None,
        on_open: Callable[[ComponentRef, float], object] = lambda _pin, _seconds: None,
    ) -> None:
        """Bring a version's files here by `fetch` and open them by `open_stage`, both in threads.

        The last argument of `open_stage` says whether it is done ahead, so that nobody waits for it just now.
        `on_change` sees which versions are open, each with its bytes, whenever that changes; `on_open` learns of each
        that was opened, and the seconds that fetching and opening it took.
        """
        self._fetch = fetch
        self._open_stage = open_stage
        self._bounds = bounds
        self._on_change = on_change
        self._on_open = on_open
        self._held: dict[ComponentRef, _Held[Stage]] = {}
        self._failures: dict[ComponentRef, _Failure] = {}
        self._wanted: tuple[ComponentRef, ...] = ()
        self._preparing: asyncio.Task[None] | None = None
        self._uses = itertools.count(1)

    @asynccontextmanager
    async def use(self, pin: ComponentRef, *, ahead: bool = False) -> AsyncIterator[Stage]:
        """A block that uses a version, opened if need be and kept open until its end; `ahead` of any request.

        Raises:
            StartError: it cannot be had or opened; the next call tries again.
            UnavailableError: as many versions are in use as may be held.
        """
        held = self._get(pin, ahead)
        held.users += 1
        try:
            # a caller that goes away must not stop the opening for the others
            yield await asyncio.shield(held.opening)
        finally:
            held.users -= 1
            held.used = next(self._uses)

    def want(self, pins: Sequence[ComponentRef]) -> None:
        """Keep these versions open from now on, and open in the background what is missing, one after the other.

        Those named first are the most important: where there is no room for all, the last are not held.
        """
        self._wanted = tuple(pins)
        self._failures = {pin: failure for pin, failure in self._failures.items() if pin in self._wanted}
        if self._preparing is None or self._preparing.done():
            self._preparing = asyncio.create_task(self._prepare())

    def let_go(self, pin: ComponentRef) -> bool:
        """Close a version that nobody wants, unless a call uses it; False where it is wanted."""
        if pin in self._wanted:
            return False
        held = self._held.get(pin)
        if held is not None and held.open and not held.users:
            del self._held[pin]
            self._changed()
        return True

    def holds(self, pin: ComponentRef) -> bool:
        """Whether a version is open or being opened."""
        return pin in self._held

    def report(self) -> tuple[VersionReport, ...]:
        """The state of every version that is wanted, held or could not be opened."""
        pins = dict.fromkeys((*self._wanted, *self._held, *self._failures))
        return tuple(self._describe(pin) for pin in pins)

    def _describe(self, pin: ComponentRef) -> VersionReport:
        held = self._held.get(pin)
        if held is not None and held.open:
            return VersionReport(pin, "loaded", None, held.size, held.seconds, held.users)
        failure = self._failures.get(pin)
        if held is None and failure is not None:
            return VersionReport(pin, "failed", failure.reason, passes_with=failure.passes_with)
        return VersionReport(pin, "preparing", None)

    async def _prepare(self) -> None:
        tried: set[ComponentRef] = set()
        while (pin := self._missing(tried)) is not None:
            tried.add(pin)
            try:
                async with self.use(pin, ahead=True):
                    pass
            except ServingError:
                # the report says why
                continue

    def _missing(self, tried: set[ComponentRef]) -> ComponentRef | None:
        now = time.monotonic()
        for pin in self._wanted:
            failure = self._failures.get(pin)
            again = failure is None or now - failure.at >= _RETRY_S
            if pin not in tried and pin not in self._held and again:
                return pin
        return None

    def _get(self, pin: ComponentRef, ahead: bool) -> _Held[Stage]:
        held = self._held.get(pin)
        if held is None:
            opening = asyncio.create_task(self._open(pin, ahead))
            # where every caller has gone away nobody else would take note of an error
            opening.add_done_callback(lambda task: task.cancelled() or task.exception())
            held = self._held[pin] = _Held(opening)
        return held

    async def _open(self, pin: ComponentRef, ahead: bool) -> Stage:
        started = time.perf_counter()
        try:
            folder, lease = await asyncio.to_thread(self._fetch, pin)
            held = self._held[pin]
            self._make_room(pin, weight_bytes(folder))
            held.size, held.lease = weight_bytes(folder), lease
            stage = await asyncio.to_thread(self._open_stage, pin, folder, ahead)
        except (ComponentError, RegistryError, RuntimeFault, ServingError) as error:
            self._fail(pin, str(error), _passes_with(error))
            raise error if isinstance(error, ServingError) else StartError(f"{pin}: {error}") from None
        except Exception as error:
            self._fail(pin, type(error).__name__)
            # whoever opens it knows our errors alone
            raise StartError(f"{pin}: something went wrong: {type(error).__name__}") from error
        except BaseException as error:
            self._fail(pin, type(error).__name__)
            raise
        held.open = True
        held.seconds = time.perf_counter() - started
        held.used = next(self._uses)
        self._failures.pop(pin, None)
        self._on_open(pin, held.seconds)
        self._changed()
        return stage

    def _fail(self, pin: ComponentRef, reason: str, passes_with: PassesWith | None = None) -> None:
        del self._held[pin]
        self._failures[pin] = _Failure(reason, time.monotonic(), passes_with)
        self._changed()

    def _make_room(self, pin: ComponentRef, size: int) -> None:
        others = {other: held for other, held in self._held.items() if other != pin}
        ranks = {other: rank for rank, other in enumerate(self._wanted)}
        own, unwanted = ranks.get(pin, len(ranks)), len(ranks) + 1
        while len(others) >= self._bounds.most or sum(h.size for h in others.values()) + size > self._bounds.most_bytes:
            idle = [
                other
                for other, held in others.items()
                if held.open and not held.users and ranks.get(other, unwanted) > own
            ]
            if not idle:
                held_bytes = sum(held.size for held in others.values())
                raise UnavailableError(
                    f"{pin}: needs {size} bytes beside {len(others)} versions of {held_bytes} bytes that are in use; "
                    f"a replica holds at most {self._bounds.most} versions and {self._bounds.most_bytes} bytes"
                )
            least = min(idle, key=lambda other: (-ranks.get(other, unwanted), others[other].used))
            del others[least]
            del self._held[least]
        self._changed()

    def _changed(self) -> None:
        self._on_change({pin: held.size for pin, held in self._held.items() if held.open})


def _passes_with(error: Exception) -> PassesWith | None:
    if isinstance(error, RegistryAwayError):
        return "registry"
    return "room" if isinstance(error, UnavailableError) else None


def weight_bytes(folder: ComponentFolder) -> int:
    """About how much memory a component takes, in bytes: its graphs and weights, in the float32 that they run in."""
    golden = {case.file for case in folder.manifest.golden}
    stored = sum(record.size for name, record in folder.manifest.files.items() if name not in golden)
    return stored * _HALF if folder.manifest.weights == "float16" else stored
