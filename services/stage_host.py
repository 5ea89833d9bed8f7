"""What every stage's replica does around its work: pinned versions, threads, figures, health."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Generic, Protocol, Self, TypeVar

from pydantic import BaseModel, ConfigDict

from compiler.copies import CompiledCopies
from compiler.settings import CompilerSettings
from components.contract import BESIDE, Kind
from components.folder import ComponentFolder
from components.reference import ComponentRef, kind_of
from registry.local.fetch import fetch
from registry.local.gc import hold
from registry.settings import RegistrySettings
from runtime.errors import RuntimeFault
from runtime.settings import Provider, SessionSettings, thread_count
from services.errors import BesideError, ServingError, stage_failure
from services.held_versions import Fetched, HeldVersions
from services.messages import LiveRecord, Made, ReplicaReport, Worked
from services.metrics.stage import StageMetrics
from services.own_options import with_own_options
from services.replica import whereabouts
from services.stage_args import StageArgs
from services.timelines.spans import Fact, Span, Stopwatch
from services.timelines.tracing import export

_log = logging.getLogger("ray.serve")

FAULTS_BEFORE_PROBE = 3


class OpenStage(Protocol):
    """What a host asks of every stage, whatever its work."""

    @property
    def provider(self) -> Provider:
        """What runs it."""


Stage = TypeVar("Stage", bound=OpenStage)


@dataclass(frozen=True, slots=True)
class Suspect(Generic[Stage]):
    """A version's stage whose last `faults` runs failed, with none that worked since."""

    stage: Stage
    faults: int


class StageSettings(BaseModel):
    """What one stage's replicas need to know; `args` are the graph's, and a replica's own environment goes before."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    registry: RegistrySettings
    args: StageArgs = StageArgs()
    compiler: CompilerSettings = CompilerSettings()

    def own(self, part: str) -> Self:
        """These, with the options that this replica's own environment names for its part.

        Raises:
            StartError: one of them is unknown, or has a value outside its limits.
        """
        return self.model_copy(update={"args": with_own_options(self.args, part)})


class StageHost(Generic[Stage]):
    """Runs one stage's work on the version that each call is pinned to, in threads beside the event loop."""

    def __init__(
        self,
        kind: Kind,
        make: Callable[[ComponentFolder, SessionSettings], Stage],
        probe: Callable[[Stage], object],
        settings: StageSettings,
    ) -> None:
        """Host the stage that `make` opens from a component folder; `probe` is work that a sound one can do."""
        self._kind = kind
        self._make = make
        self._probe = probe
        self._settings = settings
        self.metrics = StageMetrics(kind)
        self._copies = CompiledCopies(settings.compiler)
        self._versions = HeldVersions(self._fetch, self._open, settings.args.versions, self.metrics.holds, self._loaded)
        # a call whose caller left keeps its thread, while Serve lets in another
        self._threads = ThreadPoolExecutor(settings.args.max_ongoing_requests, thread_name_prefix=kind)
        self._suspects: dict[ComponentRef, Suspect[Stage]] = {}
        self._present: Counter[ComponentRef] = Counter()
        self.replica, self._node = whereabouts()
        self._replaced = False

    async def start(self, record: LiveRecord) -> None:
        """Open what requests are pinned to, so that the first one finds it ready; nothing where the bundle has none.

        Raises:
            StartError: the live version cannot be had or opened; of another, such as a canary, the report says so.
        """
        live, canary = record.live.pins.get(self._kind), record.canary
        wanted = []
        if live is not None:
            async with self._versions.use(live):
                pass
            wanted.append(live)
        if canary is not None and kind_of(canary.ref.name) == self._kind:
            wanted.append(canary.ref)
            with suppress(ServingError):
                async with self._versions.use(canary.ref, ahead=True):
                    pass
        self._versions.want(wanted)

    def hold(self, wanted: Sequence[ComponentRef], replaced: Collection[str]) -> ReplicaReport:
        """Keep the wanted versions open, the most important first, and say how far that is.

        A replica whose name is among `replaced` is no more healthy from now on, so that Serve starts another.
        """
        self._replaced = self._replaced or self.replica in replaced
        self._versions.want(wanted)
        return ReplicaReport(self.replica, self._node, self._versions.report())

    async def run(self, pin: ComponentRef, work: Callable[[Stage], Worked[Made]]) -> Worked[Made]:
        """Do `work` on a pinned version in a thread; a fault of the runtime is counted, and raised as one sentence.

        Raises:
            StartError: the version cannot be had or opened.
            ServingError: the runtime could not do it; why goes to the log.
        """
        present = Stopwatch()
        with self._occupying(pin):
            async with self.using(pin) as stage:
                worked = await self._worked(pin, stage, work)
        return replace(worked, present_s=present.seconds)

    async def _worked(self, pin: ComponentRef, stage: Stage, work: Callable[[Stage], Worked[Made]]) -> Worked[Made]:
        with self.working(pin):
            try:
                worked = await asyncio.get_running_loop().run_in_executor(self._threads, work, stage)
            except RuntimeFault as fault:
                self.ran(pin, stage, fault)
                raise stage_failure(self._kind) from None
            self.ran(pin, stage)
            self.metrics.took(str(pin), "run", worked.span.seconds)
            export(worked.span)
            return worked

    def using(self, pin: ComponentRef) -> AbstractAsyncContextManager[Stage]:
        """A block that uses a pinned version, opened if need be, which stays open until its end.

        Raises:
            StartError: it cannot be had or opened.
            UnavailableError: as many versions are in use as a replica may hold.
        """
        return self._versions.use(pin)

    @contextmanager
    def _occupying(self, pin: ComponentRef) -> Iterator[None]:
        most = self._settings.args.max_ongoing_requests
        self._present[pin] += 1
        self.metrics.occupied(str(pin), self._present[pin] / most)
        try:
            yield
        finally:
            self._present[pin] -= 1
            self.metrics.occupied(str(pin), self._present[pin] / most)

    @contextmanager
    def working(self, pin: ComponentRef) -> Iterator[None]:
        """A block in which one call is worked on by a pinned version: timed where it ends well, counted where not."""
        started = time.perf_counter()
        try:
            yield
        except (asyncio.CancelledError, GeneratorExit):
            self.metrics.abandoned(str(pin))
            raise
        except ServingError as error:
            # what was refused for a reason did not fail
            named = self._kind in BESIDE and isinstance(error, BesideError)
            if type(error) is ServingError or named:
                self.metrics.failed(str(pin))
            raise
        self.metrics.worked(str(pin), time.perf_counter() - started)

    def span(self, name: str, watch: Stopwatch, pin: ComponentRef, **facts: Fact) -> Span:
        """What a pinned version has worked on until now, for a request's timeline."""
        return watch.span(name, stage=self._kind, component=pin, replica=self.replica, **facts)

    def ran(self, pin: ComponentRef, stage: Stage, fault: RuntimeFault | None = None) -> None:
        """Take note of a run of a version's session: one that failed makes it suspect, one that did not clears it."""
        if fault is None:
            self._suspects.pop(pin, None)
            return
        known = self._suspects.get(pin)
        self._suspects[pin] = Suspect(stage, 1 if known is None else known.faults + 1)
        _log.error("%s: %s", pin, fault)

    async def check_health(self) -> None:
        """Probe each version whose last runs all failed: the requests may have been at fault, not the replica.

        A version that nobody wants any more is let go of where its probe fails: it may be what is at fault.

        Raises:
            ServingError: a probe failed too, or the rollout gave this replica up; Serve starts another in this place.
        """
        if self._replaced:
            raise ServingError(f"{self._kind}: could not prepare a version in time")
        # a version that was closed is not to stay for this
        self._suspects = {pin: suspect for pin, suspect in self._suspects.items() if self._versions.holds(pin)}
        for pin, suspect in list(self._suspects.items()):
            if suspect.faults < FAULTS_BEFORE_PROBE:
                continue
            try:
                # not in the stage's own threads: all of them may be at work for minutes
                await asyncio.to_thread(self._probe, suspect.stage)
            except RuntimeFault as fault:
                if self._versions.let_go(pin):
                    self._suspects.pop(pin, None)
                    _log.error("%s: is not wanted, and let go of: %s", pin, fault)
                    continue
                raise ServingError(f"{pin}: {suspect.faults} runs failed, and so did the probe: {fault}") from None
            self._suspects.pop(pin, None)

    def _loaded(self, pin: ComponentRef, seconds: float) -> None:
        self.metrics.took(str(pin), "load", seconds)

    def _fetch(self, pin: ComponentRef) -> Fetched:
        # first, so that nothing is tidied away between the two
        lease = hold(pin, self._settings.registry)
        return Fetched(ComponentFolder.open(fetch(pin, self._settings.registry)), lease)

    def _open(self, pin: ComponentRef, folder: ComponentFolder, ahead: bool) -> Stage:
        started = time.perf_counter()
        opened = self._copies.open(self._make, folder, self._settings.args.session, wait=ahead)
        seconds = time.perf_counter() - started
        self.metrics.opened(str(pin), opened.outcome, seconds)
        _log.info(
            "%s: opened %s on %s in %.3f s, copy: %s, threads: %d",
            self._kind,
            pin,
            opened.stage.provider,
            seconds,
            opened.outcome,
            thread_count(self._settings.args.session),
        )
        if opened.reason is not None:
            _log.warning("%s: no compiled copy: %s", pin, opened.reason)
        return opened.stage
