"""The registry as the controller asks it: off the event loop, one question after the other, versions remembered."""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

from components.contract import Contract
from components.errors import ComponentError
from components.reference import ComponentRef
from registry.errors import RegistryAwayError, RegistryError
from registry.registry import Registry, Survey
from registry.settings import RegistrySettings
from registry.version import Version

Answer = TypeVar("Answer")

# how long, and how many, answers to callers serve again, refusals too
_ANSWERS_S = 3.0
_MOST_ANSWERS = 256


class _Asked(NamedTuple):
    answer: asyncio.Future[Any]
    at: float


class Desk:
    """Asks in one thread, so that a registry that hangs holds up nothing but the questions to it.

    What callers want to know has a thread of its own: they could ask so much that a rollout would wait.
    """

    def __init__(self, settings: RegistrySettings, known: Mapping[ComponentRef, Contract]) -> None:
        self._settings = settings
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="registry")
        self._callers = ThreadPoolExecutor(1, thread_name_prefix="callers")
        self._asked: dict[str, _Asked] = {}
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

    async def look_up(self, what: str, question: Callable[[Registry], Answer]) -> Answer:
        """The answer to a caller's question, which `what` tells from others; for a few seconds it is not asked again.

        Raises:
            RegistryError: as `ask`.
        """
        asked, now = self._asked.get(what), time.monotonic()
        if asked is None or now - asked.at > _ANSWERS_S:
            answer = asyncio.get_running_loop().run_in_executor(self._callers, self._answer, question)
            # where every caller has gone away nobody else would take note of an error
            answer.add_done_callback(lambda done: done.cancelled() or done.exception())
            self._asked.pop(what, None)
            asked = self._asked[what] = _Asked(answer, now)
            while len(self._asked) > _MOST_ANSWERS:
                del self._asked[next(iter(self._asked))]
        try:
            # who goes away must not end it for the others
            found: Answer = await asyncio.shield(asked.answer)
        except RegistryAwayError:
            if self._asked.get(what) is asked:
                del self._asked[what]
            raise
        return found

    async def survey(self, bundle: str) -> Survey:
        """What may have changed about a bundle; raises as `ask`."""
        return await self.ask(lambda registry: registry.survey(bundle))

    async def pin(self, name: str, version: int) -> ComponentRef:
        """The pin of a version, asked for once; raises as `ask`."""
        if (name, version) not in self._refs:
            self._remember(await self.ask(lambda registry: registry.version(name, version)))
        return self._refs[name, version]

    async def pin_for_caller(self, name: str, version: int) -> ComponentRef:
        """Do as `pin` for a caller; raises as `ask`."""
        if (name, version) not in self._refs:
            self._remember(
                await self.look_up(f"version {name}/{version}", lambda registry: registry.version(name, version))
            )
        return self._refs[name, version]

    def known(self, name: str, version: int) -> ComponentRef | None:
        """The pin of a version that was asked for before."""
        return self._refs.get((name, version))

    def close(self) -> None:
        """Ask nothing more."""
        self._thread.shutdown(wait=False, cancel_futures=True)
        self._callers.shutdown(wait=False, cancel_futures=True)

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
