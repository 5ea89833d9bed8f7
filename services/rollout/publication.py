"""What is decided, and its publication: callers get a record, the disk what the next start may need."""

from collections.abc import Callable

from components.reference import ComponentRef
from services.messages import LiveRecord
from services.rollout.alias_watch import AliasWatch
from services.rollout.decision import decide, fallback_of
from services.rollout.desk import Desk
from services.rollout.last_good import MOST_REMEMBERED, LastGood
from services.rollout.live_rollout import LiveRollout
from services.rollout.memory import Memory
from services.rollout.news import News
from services.rollout.outage import Outage
from services.rollout.selection import Tries


class Publication:
    """Makes a record of what is live, what aliases say and whether the registry answers; used from one event loop only.

    `news` hands it out.
    """

    def __init__(
        self,
        bundle: str,
        live: LiveRollout,
        desk: Desk,
        gate: Tries,
        aliases: AliasWatch,
        outage: Outage,
        keep: Callable[[LastGood], object],
    ) -> None:
        """Take all of these as they are at the moment of a decision; `keep` writes on disk."""
        self._bundle = bundle
        self._live = live
        self._desk = desk
        self._gate = gate
        self._aliases = aliases
        self._outage = outage
        self._memory = Memory(keep)
        self._kept = self._admitted()
        self.news = News(self._decide())

    def publish(self) -> None:
        """Decide, and have everybody pinned to that from now on; the disk gets it with the next `write`."""
        self.news.tell(self._decide())
        self._keep()

    def refresh(self) -> None:
        """Publish where something beside the rollout has changed; what passed the gate since is kept in any case."""
        told, now = self.news.record, (self._aliases.pointed, self._fallback(), self._outage.since)
        if (told.aliases, told.fallback, told.away_since) != now:
            self.publish()
        if self._kept != self._admitted():
            self._keep()

    def registry_away(self, reason: str) -> None:
        """Take note that the registry does not answer, which is news only once."""
        self._outage.begin(reason)
        if self.news.record.away_since is None:
            self.publish()

    async def write(self) -> None:
        """Write on disk what was decided, if it is not there yet."""
        await self._memory.write()

    def _decide(self) -> LiveRecord:
        contracts, aliases = self._desk.contracts, self._aliases.pointed
        return decide(self._bundle, self._live.rollout, contracts, aliases, self._fallback(), self._outage.since)

    def _fallback(self) -> ComponentRef | None:
        contracts, aliases = self._desk.contracts, self._aliases.pointed
        admitted = {*self._live.served, *self._gate.admitted}
        return fallback_of(self._bundle, self._live.rollout, contracts, aliases, admitted)

    def _admitted(self) -> tuple[ComponentRef, ...]:
        return tuple(self._gate.admitted)[-MOST_REMEMBERED:]

    def _keep(self) -> None:
        contracts, aliases, self._kept = self._desk.contracts, self._aliases.pointed, self._admitted()
        self._memory.keep(self._live.rollout, aliases, contracts, served=self._live.served, admitted=self._kept)
