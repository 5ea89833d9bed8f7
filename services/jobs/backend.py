"""What a kind of database is to the store of jobs."""

from typing import Any, Literal, Protocol, TypeAlias

from sqlalchemy import Connection
from sqlalchemy.engine import URL

# what a transaction is for; of those that change, each sees what all before it wrote, and nobody writes in between
Kind: TypeAlias = Literal["makes", "changes", "reads"]


class DatabaseRefusedError(Exception):
    """A database that answers cannot hold jobs; the sentence says why."""


class Backend(Protocol):
    """A module for each kind of database has these."""

    def refusal(self, url: URL) -> str | None:
        """Why an address cannot be used, None where it can."""

    def options(self, url: URL, busy_s: float) -> dict[str, Any]:
        """What the engine is made with; a transaction waits at most so many seconds for another one."""

    def connected(self, connection: Any, _record: object) -> None:
        """Set up a new connection."""

    def begun(self, connection: Connection, kind: Kind) -> None:
        """Begin a transaction."""

    def is_busy(self, error: BaseException | None) -> bool:
        """Whether a driver's error is that the database could not be had: others had it for too long, or it is away."""
