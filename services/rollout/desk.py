"""The registry as the controller asks it: off the event loop, one question after the other, versions remembered."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from components.contract import Contract
from components.errors import ComponentError
from components.reference import ComponentRef
from registry.errors import RegistryAwayError, RegistryError
from registry.registry import Registry, Survey
from registry.settings import RegistrySettings
from registry.version import Version

Answer = TypeVar("Answer")


class Desk:
    """Asks in one thread, so that a registry that hangs holds up nothing but the questions to it."""

    def __init__(self, settings: RegistrySettings, known: Mapping[ComponentRef, Contract]) -> None:
        self._settings = settings
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="registry")
        self._registry: Registry | None = None
        # neither a version's digest nor its contract ever changes
        self.contracts = dict(known)
        self._refs = {(ref.name, ref.version): ref for ref in known}

    async def ask(self, question: Callable[[Registry], Answer]) -> Answer:
        """The answer of the registry, which is connected to when it was not yet.

        Raises:
            RegistryError: it refuses; a RegistryAwayError where it does not answer.
        """
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._answer, question)

    async def survey(self, bundle: str) -> Survey:
        """What may have changed about a bundle; raises as `ask`."""
        return await self.ask(lambda registry: registry.survey(bundle))

    async def pin(self, name: str, version: int) -> ComponentRef:
        """The pin of a version, asked for once; raises as `ask`."""
        if (name, version) not in self._refs:
            self._remember(await self.ask(lambda registry: registry.version(name, version)))
        return self._refs[name, version]

    def known(self, name: str, version: int) -> ComponentRef | None:
        """The pin of a version that was asked for before."""
        return self._refs.get((name, version))

    def close(self) -> None:
        """Ask nothing more."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _answer(self, question: Callable[[Registry], Answer]) -> Answer:
        with unusable_means_away():
            if self._registry is None:
                self._registry = Registry.connect(self._settings)
            return question(self._registry)

    def _remember(self, version: Version) -> None:
        self.contracts[version.ref] = version.contract
        self._refs[version.ref.name, version.ref.version] = version.ref


@contextmanager
def unusable_means_away() -> Iterator[None]:
    """Take whatever MLflow's client makes of an answer that is none for a registry that does not answer.

    Raises:
        RegistryAwayError: something was raised that is neither ours nor the registry's refusal.
    """
    try:
        yield
    except (RegistryError, ComponentError):
        raise
    except Exception as error:
        # a proxy's page, half an answer, one of another version: there is no end of what these raise
        raise RegistryAwayError(f"the registry's answer cannot be used: {type(error).__name__}") from error
