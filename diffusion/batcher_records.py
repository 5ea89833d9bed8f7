"""What the step batcher is told and what it answers, as frozen records."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from diffusion.errors import DiffusionError, require_integer

Priority: TypeAlias = Literal["high", "normal", "low"]

# from the highest class down: how many runs a class leads in each round of the classes
WEIGHTS: Mapping[Priority, int] = {"high": 16, "normal": 4, "low": 1}

_MOST = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Ticket:
    """One picture under way, as far as batching needs to know it.

    `signature` is all that the rows of a run must have in common: the pinned component, the latent shape, the
    conditioning's names, widths and token count. `pixels` are the latent pixels of one row, `rows` the rows of its next
    evaluation (two with guidance), `evaluations` those still to run, the next included. `deadline` is in seconds, on
    the clock that `StepBatcher.add` is told the time of. `request` is common to the pictures of one request.
    `rows_to_come` are the rows of all evaluations still to run, where they differ; None where all have `rows`. One that
    is `apart` shares its next run with no other.
    """

    id: str
    tenant: str
    signature: Hashable
    pixels: int
    rows: int
    evaluations: int
    priority: Priority = "normal"
    deadline: float | None = None
    request: str | None = None
    rows_to_come: int | None = None
    apart: bool = False

    @property
    def owner(self) -> str:
        """The request that it belongs to; a picture that names none is one of its own."""
        return self.id if self.request is None else self.request

    @property
    def cost(self) -> int:
        """What its next evaluation costs, in rows times latent pixels."""
        return self.rows * self.pixels

    @property
    def work(self) -> int:
        """What all its evaluations still to run cost, in rows times latent pixels."""
        return self.cost * self.evaluations if self.rows_to_come is None else self.pixels * self.rows_to_come

    def again(self, rows: int | None = None, rows_to_come: int | None = None, *, apart: bool = False) -> "Ticket":
        """Make the ticket that comes back after an evaluation, for `rows` rows or as many as before.

        A sampler that asks for more evaluations than were announced has one left, however often it asks.
        """
        return replace(
            self,
            rows=self.rows if rows is None else rows,
            evaluations=max(1, self.evaluations - 1),
            rows_to_come=rows_to_come,
            apart=apart,
        )


@dataclass(frozen=True, slots=True)
class Run:
    """The tickets that share the next run of the denoiser, in the order of their rows; empty when nothing waits."""

    tickets: tuple[Ticket, ...] = ()

    def __bool__(self) -> bool:
        """Whether there is anything to run."""
        return bool(self.tickets)

    @property
    def rows(self) -> int:
        """How many rows the run has."""
        return sum(ticket.rows for ticket in self.tickets)

    @property
    def cost(self) -> int:
        """What the run costs, in rows times latent pixels."""
        return sum(ticket.cost for ticket in self.tickets)


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a run may hold, and how much may wait.

    `rows` and `pixels` (latent pixels of all rows together) bound one run; `queued` bounds the work of all tickets
    together, in rows times latent pixels of every evaluation still to run; one request alone may have more.

    Raises:
        DiffusionError: a limit is below 1, or `queued` below `pixels`.
    """

    rows: int
    pixels: int
    queued: int

    def __post_init__(self) -> None:
        """Refuse limits under which nothing could run."""
        require_integer("limits.rows", self.rows, 1, _MOST)
        require_integer("limits.pixels", self.pixels, 1, _MOST)
        require_integer("limits.queued", self.queued, self.pixels, _MOST)

    def check(self, ticket: Ticket) -> None:
        """Raise DiffusionError unless the ticket could wait, and run, if it were alone."""
        if ticket.priority not in WEIGHTS:
            raise DiffusionError("priority", ticket.priority, f"one of {', '.join(WEIGHTS)}")
        require_integer("pixels", ticket.pixels, 1, self.pixels)
        self.check_rows(ticket)
        require_integer("evaluations", ticket.evaluations, 1, _MOST)
        if ticket.rows_to_come is not None:
            require_integer("rows_to_come", ticket.rows_to_come, ticket.rows, _MOST)

    def check_rows(self, ticket: Ticket) -> None:
        """Raise DiffusionError unless the rows of the ticket's next evaluation fit into a run."""
        require_integer("rows", ticket.rows, 1, min(self.rows, self.pixels // ticket.pixels))
