"""What every stage's replica does around its work: pinned versions, threads, figures, health."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

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
from runtime.settings import SessionSettings
from services.errors import ServingError, StartError
from services.messages import LiveModel
from services.metrics import StageMetrics
from services.shelf import Shelf

Stage = TypeVar("Stage")
Result = TypeVar("Result")

FAULTS_BEFORE_UNHEALTHY = 3


class StageSettings(BaseModel):
    """What one stage's replicas need to know; `workers` calls run at the same time."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    registry: RegistrySettings
    session: SessionSettings
    workers: int = Field(ge=1)


class StageHost(Generic[Stage]):
    """Runs one stage's work on the version that each call is pinned to, in threads beside the event loop."""

    def __init__(
        self, kind: Kind, make: Callable[[ComponentFolder, SessionSettings], Stage], settings: StageSettings
    ) -> None:
        """Host the stage that `make` opens from a component folder."""
        self._kind = kind
        self._make = make
        self._settings = settings
        self._shelf = Shelf(self._open)
        self._threads = ThreadPoolExecutor(settings.workers, thread_name_prefix=kind)
        self._faults = 0
        self.metrics = StageMetrics(kind)

    async def start(self, catalog: DeploymentHandle) -> None:
        """Open the live version, so that the first request finds it ready.

        Raises:
            StartError: it cannot be had or opened.
        """
        live: LiveModel = await catalog.live.remote()
        await self._stage(live.pins[self._kind])

    async def run(self, pin: ComponentRef, work: Callable[[Stage], Result]) -> Result:
        """Do `work` on a pinned version in a thread; what it raises is counted and raised here.

        Raises:
            StartError: the version cannot be had or opened.
        """
        stage = await self._stage(pin)
        started = time.perf_counter()
        try:
            result = await asyncio.get_running_loop().run_in_executor(self._threads, work, stage)
        except asyncio.CancelledError:
            self.metrics.abandoned(str(pin))
            raise
        except RuntimeFault as fault:
            self._faults += 1
            self.metrics.failed(str(pin))
            raise ServingError(str(fault)) from None
        self._faults = 0
        self.metrics.worked(str(pin), time.perf_counter() - started)
        return result

    def check_health(self) -> None:
        """Raise ServingError after several failed runs in a row, so that Serve starts another replica in this place."""
        if self._faults >= FAULTS_BEFORE_UNHEALTHY:
            raise ServingError(f"{self._kind}: the last {self._faults} runs failed")

    async def _stage(self, pin: ComponentRef) -> Stage:
        try:
            return await self._shelf.get(pin)
        except (ComponentError, RegistryError, RuntimeFault) as error:
            raise StartError(f"{pin}: {error}") from None

    def _open(self, pin: ComponentRef) -> Stage:
        started = time.perf_counter()
        stage = self._make(ComponentFolder.open(fetch(pin, self._settings.registry)), self._settings.session)
        self.metrics.opened(str(pin), time.perf_counter() - started)
        return stage
