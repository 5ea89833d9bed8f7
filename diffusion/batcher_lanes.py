"""Who may go next: deficit round robin within a priority class."""

from collections import OrderedDict, deque
from collections.abc import Hashable
from typing import TypeAlias

from diffusion.batcher_records import Limits, Run, Ticket

FlowKey: TypeAlias = tuple[str, Hashable]


class Draft:
    """A run that is being filled, and the room that is left in it."""

    def __init__(self, limits: Limits) -> None:
        self._tickets: list[Ticket] = []
        self._rows_left = limits.rows
        self._pixels_left = limits.pixels

    @property
    def full(self) -> bool:
        """Whether not even one row more could fit."""
        return self._rows_left == 0 or self._pixels_left == 0

    def fits(self, ticket: Ticket) -> bool:
        """Whether all rows of the ticket find room."""
        return ticket.rows <= self._rows_left and ticket.cost <= self._pixels_left

    def append(self, ticket: Ticket) -> None:
        """Put a ticket that fits behind the others."""
        self._tickets.append(ticket)
        self._rows_left -= ticket.rows
        self._pixels_left -= ticket.cost

    def run(self) -> Run:
        """Close the draft."""
        return Run(tuple(self._tickets))


class Flow:
    """What one tenant waits for in one signature: first come, first served, within its deficit.

    `deficit` is what the flow may still spend, in rows times latent pixels; below zero it was served on credit. Between
    two runs it lies from -quantum, included, to 2 * quantum, excluded: a flow borrows one quantum at most, and nothing
    is given while it could pay for its head, which costs one quantum at most. `tickets` counts the waiting and running.
    """

    def __init__(self, quantum: int) -> None:
        self.waiting: OrderedDict[str, Ticket] = OrderedDict()
        self.tickets = 0
        self.deficit = 0
        self._quantum = quantum

    @property
    def head(self) -> Ticket:
        """The ticket that waits longest, of a flow in which one waits."""
        return next(iter(self.waiting.values()))

    @property
    def can_pay(self) -> bool:
        """Whether its head is paid for, so that it may lead a run."""
        return self.deficit >= self.head.cost

    @property
    def can_borrow(self) -> bool:
        """Whether its head may ride in a run, if need be on credit."""
        return self.deficit - self.head.cost >= -self._quantum

    def remove(self, ticket_id: str) -> Ticket:
        """Take a waiting ticket out.

        Unlike the paper's, a flow of which none waits keeps its deficit: what runs comes back after the run, and a flow
        of one ticket would else get one run where another gets as many as its quantum pays for.
        """
        return self.waiting.pop(ticket_id)


class Lane:
    """The flows of one priority class under deficit round robin (Shreedhar and Varghese, 1995), for runs that share.

    Flows that can pay lead runs in turn. Two things differ from the paper, because a run holds one signature only. Room
    that the leader leaves goes to the other flows of its signature, ticket by ticket, on credit of at most one quantum,
    the cost bound of a run. And all waiting flows are given the same together, once none of them can pay, so that the
    flows of other signatures lose nothing by standing aside: as little as lets one of them pay, for a quantum may be
    many runs of small pictures.

    `credit` is the number of runs that the class may still lead in this round of the classes.
    """

    def __init__(self, quantum: int) -> None:
        self.credit = 0
        self._quantum = quantum
        self._flows: dict[FlowKey, Flow] = {}
        self._ring: OrderedDict[FlowKey, Flow] = OrderedDict()
        self._peers: dict[Hashable, OrderedDict[FlowKey, Flow]] = {}

    @property
    def waits(self) -> bool:
        """Whether any ticket waits in this class."""
        return bool(self._ring)

    def enter(self, ticket: Ticket) -> None:
        """Let a new ticket wait behind those of its flow."""
        flow = self._flows.setdefault(_key(ticket), Flow(self._quantum))
        flow.tickets += 1
        self.wait(ticket)

    def wait(self, ticket: Ticket) -> None:
        """Let a ticket wait, again, behind those of its flow."""
        key = _key(ticket)
        flow = self._flows[key]
        flow.waiting[ticket.id] = ticket
        self._ring.setdefault(key, flow)
        self._peers.setdefault(ticket.signature, OrderedDict()).setdefault(key, flow)

    def leave(self, ticket: Ticket) -> None:
        """Forget a ticket, waiting or not, and its flow with the last one."""
        key = _key(ticket)
        flow = self._flows[key]
        if ticket.id in flow.waiting:
            self._remove(key, ticket)
        flow.tickets -= 1
        if flow.tickets == 0:
            del self._flows[key]

    def lead(self, draft: Draft) -> Ticket:
        """Start a run with the head of the next flow that can pay; the flow's next turn comes after all others'."""
        key = self._payer()
        while key is None:
            self._renew()
            key = self._payer()
        self._ring.move_to_end(key)
        return self._take(key, draft)

    def fill(self, draft: Draft, signature: Hashable) -> None:
        """Give the room that is left to flows of this signature, one ticket each in turn, until it or they run out."""
        while not draft.full and self._ride(draft, signature) and self._payer() is None:
            # nobody else could use a quantum that this round withholds: a run of the only signature is always filled
            self._renew()

    def _ride(self, draft: Draft, signature: Hashable) -> bool:
        """Take what may ride now, and say whether a flow was left behind for want of credit alone."""
        left_behind = False
        keys = deque(self._peers.get(signature, ()))
        while keys and not draft.full:
            key = keys.popleft()
            flow = self._flows[key]
            if not flow.waiting or flow.head.apart or not draft.fits(flow.head):
                continue
            if flow.can_borrow:
                self._take(key, draft)
                keys.append(key)
            else:
                left_behind = True
        return left_behind

    def _payer(self) -> FlowKey | None:
        return next((key for key, flow in self._ring.items() if flow.can_pay), None)

    def _renew(self) -> None:
        least = min(flow.head.cost - flow.deficit for flow in self._ring.values())
        for flow in self._ring.values():
            flow.deficit += least

    def _take(self, key: FlowKey, draft: Draft) -> Ticket:
        flow = self._flows[key]
        ticket = flow.head
        flow.deficit -= ticket.cost
        self._peers[ticket.signature].move_to_end(key)
        self._remove(key, ticket)
        draft.append(ticket)
        return ticket

    def _remove(self, key: FlowKey, ticket: Ticket) -> None:
        flow = self._flows[key]
        flow.remove(ticket.id)
        if flow.waiting:
            return
        del self._ring[key]
        peers = self._peers[ticket.signature]
        del peers[key]
        if not peers:
            del self._peers[ticket.signature]


def _key(ticket: Ticket) -> FlowKey:
    return ticket.tenant, ticket.signature
