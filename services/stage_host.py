"""What every stage's replica does around its work: pinned versions, threads, figures, health."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, Field
from ray.serve.handle import DeploymentHandle

from components.contract import Kind
from components.errors import ComponentError
from components.folder import ComponentFolder
from components.reference import ComponentRef
from registry.errors import RegistryError
from registry.fetch import fetch
from registry.settings import RegistrySettings
from runtime.errors import RuntimeFault
from runtime.settings import Provider, SessionSettings, thread_count
from services.errors import ServingError, StartError
from services.messages import LiveModel
from services.metrics import StageMetrics
from services.shelf import Shelf

_log = logging.getLogger("ray.serve")

FAULTS_BEFORE_PROBE = 3


class OpenStage(Protocol):
    """What a host asks of every stage, whatever its work."""

    @property
    def provider(self) -> Provider:
        """What runs it."""


Stage = TypeVar("Stage", bound=OpenStage)
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Suspect(Generic[Stage]):
    """A version's stage whose last `faults` runs failed, with none that worked since."""

    stage: Stage
    faults: int


class StageSettings(BaseModel):
    """What one stage's replicas need to know; `workers` calls run at the same time."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    registry: RegistrySettings
    session: SessionSettings
    workers: int = Field(ge=1)


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
        self._shelf = Shelf(self._open)
        self._threads = ThreadPoolExecutor(settings.workers, thread_name_prefix=kind)
        self._suspects: dict[ComponentRef, Suspect[Stage]] = {}
        self.metrics = StageMetrics(kind)

    async def start(self, catalog: DeploymentHandle) -> None:
        """Open the live version, so that the first request finds it ready.

        Raises:
            StartError: it cannot be had or opened.
        """
        live: LiveModel = await catalog.live.remote()
        await self.stage(live.pins[self._kind])

    async def run(self, pin: ComponentRef, work: Callable[[Stage], Result]) -> Result:
        """Do `work` on a pinned version in a thread; a fault of the runtime is counted, and raised as one sentence.

        Raises:
            StartError: the version cannot be had or opened.
            ServingError: the runtime could not do it; why goes to the log.
        """
        stage = await self.stage(pin)
        with self.working(pin):
            try:
                result = await asyncio.get_running_loop().run_in_executor(self._threads, work, stage)
            except RuntimeFault as fault:
                self.ran(pin, stage, fault)
                raise ServingError(f"{self._kind}: something went wrong in this stage") from None
            self.ran(pin, stage)
            return result

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
            if type(error) is ServingError:
                self.metrics.failed(str(pin))
            raise
        self.metrics.worked(str(pin), time.perf_counter() - started)

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

        Raises:
            ServingError: a probe failed too; Serve starts another replica in this place.
        """
        for pin, suspect in list(self._suspects.items()):
            if suspect.faults < FAULTS_BEFORE_PROBE:
                continue
            try:
                # not in the stage's own threads: all of them may be at work for minutes
                await asyncio.to_thread(self._probe, suspect.stage)
            except RuntimeFault as fault:
                raise ServingError(f"{pin}: {suspect.faults} runs failed, and so did the probe: {fault}") from None
            self._suspects.pop(pin, None)

    async def stage(self, pin: ComponentRef) -> Stage:
        """The stage of a pinned version, opened if need be.

        Raises:
            StartError: the version cannot be had or opened.
        """
        try:
            return await self._shelf.get(pin)
        except (ComponentError, RegistryError, RuntimeFault) as error:
            raise StartError(f"{pin}: {error}") from None

    def _open(self, pin: ComponentRef) -> Stage:
        started = time.perf_counter()
        stage = self._make(ComponentFolder.open(fetch(pin, self._settings.registry)), self._settings.session)
        self.metrics.opened(str(pin), time.perf_counter() - started)
        threads = thread_count(self._settings.session)
        _log.info("%s: opened %s on %s, threads: %d", self._kind, pin, stage.provider, threads)
        return stage
