"""What the registry has not been told yet: the rollout's record, and the aliases that are to follow it."""

import logging
import uuid
from collections.abc import Iterable
from contextlib import ExitStack

from components.reference import DEFAULT_ALIAS, ComponentRef
from registry.errors import RegistryAwayError, RegistryError
from registry.registry import Registry
from registry.rollout.state import PLAN_TAG, ROLLOUT_TAG, Plan, Rollout, written
from services.rollout.alias_watch import AliasWatch, Told
from services.rollout.desk import Desk

_log = logging.getLogger("ray.serve")

# nobody else asks the registry anything meanwhile
_LOCK_WAIT_S = 3.0


class Ledger:
    """Keeps what is owed to the registry until the registry has it; used from one event loop only.

    `server` is the id under which the record says that somebody follows the bundle's plans, `refused` why the registry
    did not take the record last, None where it did.
    """

    def __init__(self, bundle: str, desk: Desk, aliases: AliasWatch) -> None:
        """Tell the registry at the desk; `aliases` hears what became of those."""
        self.server = uuid.uuid4().hex
        self.refused: str | None = None
        self._bundle = bundle
        self._desk = desk
        self._aliases = aliases
        self._owed: dict[str, ComponentRef] = {}
        self._unwritten = True

    @property
    def owes_aliases(self) -> bool:
        """Whether an alias has not followed yet."""
        return bool(self._owed)

    def owe(self, production: Iterable[ComponentRef] = ()) -> None:
        """Have the record written next, and `production` point at these."""
        self._unwritten = True
        self._owed |= {ref.name: ref for ref in production}

    async def settle(self, rollout: Rollout) -> None:
        """Have the aliases follow, and the record written, as far as that is owed; a refused record is owed still.

        Raises:
            RegistryAwayError: the registry does not answer; all is owed still.
        """
        try:
            told = await self._tell(rollout)
        except RegistryAwayError:
            raise
        except RegistryError as error:
            if self.refused != str(error):
                _log.error("%s", error)
            self.refused = str(error)
            return
        self.refused = None
        self._aliases.followed(told)

    async def _tell(self, rollout: Rollout) -> Told:
        owed = tuple(self._owed.values())
        if not owed and not self._unwritten:
            return Told()
        self._unwritten = False
        record = rollout.model_copy(update={"server": self.server})
        try:
            told = await self._desk.ask(lambda registry: _write(registry, self._bundle, owed, record))
        except BaseException:
            self._unwritten = True
            raise
        for ref in told.production:
            if self._owed.get(ref.name) == ref:
                del self._owed[ref.name]
        return told


def note_plan(registry: Registry, bundle: str, plan: Plan, seen: str | None) -> bool:
    """Write a plan of our own making as the bundle's, unless another than `seen` has come meanwhile; whether it is.

    So whoever asks what is pending finds this one, and not the plan before.

    Raises:
        RegistryError: it is refused, or as a RegistryAwayError not answered.
    """
    with registry.writing(_LOCK_WAIT_S):
        if registry.survey(bundle).tags.get(PLAN_TAG) != seen:
            return False
        registry.set_bundle_tag(bundle, PLAN_TAG, written(plan))
    return True


def _write(registry: Registry, bundle: str, owed: tuple[ComponentRef, ...], rollout: Rollout) -> Told:
    # the aliases wait for whoever moves one on this machine, which the record alone need not
    told = _point(registry, owed) if owed else Told()
    registry.set_bundle_tag(bundle, ROLLOUT_TAG, written(rollout))
    return told


def _point(registry: Registry, owed: tuple[ComponentRef, ...]) -> Told:
    with ExitStack() as alone:
        try:
            alone.enter_context(registry.writing(_LOCK_WAIT_S))
        except RegistryError as error:
            _log.warning("the alias %s follows later: %s", DEFAULT_ALIAS, error)
            return Told()
        try:
            registry.promote_together(owed)
        except RegistryAwayError:
            raise
        except RegistryError as error:
            # the record is right all the same; an alias of another name may stand in the way
            _log.warning("the alias %s does not follow: %s", DEFAULT_ALIAS, error)
            return Told(owed, str(error))
    return Told(owed)
