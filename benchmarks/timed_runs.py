"""A denoiser whose every `session.run` is timed."""

import time
from dataclasses import dataclass
from typing import Any

from components.folder import ComponentFolder
from pipeline.denoiser import Denoiser
from runtime.session import Session
from runtime.settings import SessionSettings


@dataclass(frozen=True, slots=True)
class RunSpan:
    """When one `session.run` began and ended, on the clock of `time.perf_counter`."""

    began_s: float
    ended_s: float


class TimedDenoiser(Denoiser):
    """Times ONNX Runtime's own `run` alone: what our session does around it counts as outside."""

    def __init__(self, folder: ComponentFolder, settings: SessionSettings) -> None:
        """Open the component.

        Raises:
            ComponentError: as `Denoiser`.
            RuntimeFault: as `Denoiser`.
        """
        super().__init__(folder, settings)
        self.runs: list[RunSpan] = []
        opened = self._session
        self._session = Session(_TimedRuns(opened._session, self.runs), opened.contract, opened.provider)


class _TimedRuns:
    """ONNX Runtime's session, as far as `Session` uses it."""

    def __init__(self, session: Any, runs: list[RunSpan]) -> None:
        self._session = session
        self._runs = runs

    def run(self, *arguments: Any) -> Any:
        began_s = time.perf_counter()
        outputs = self._session.run(*arguments)
        self._runs.append(RunSpan(began_s, time.perf_counter()))
        return outputs
