"""When a ticket would finish, if all that waits got its fair share of one denoiser."""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence

from diffusion.batcher_records import WEIGHTS, Priority, Ticket


def work_until_finished(ticket: Ticket, others: Iterable[Ticket]) -> float:
    """Work that is served until `ticket` has finished, in rows times latent pixels, its own included.

    It is exact for generalized processor sharing (Parekh and Gallager, 1993), the fluid limit of round robin: while
    `ticket` gets what it needs, an equal competitor gets as much, or all that it needs itself. So it counts equal
    tickets in a flow, then equal flows in a class, then classes by weight. What arrives later is left out.
    """
    flows: defaultdict[tuple[Priority, str, Hashable], list[float]] = defaultdict(list)
    for other in others:
        flows[other.priority, other.tenant, other.signature].append(other.work)
    own = (ticket.priority, ticket.tenant, ticket.signature)
    work = _shared(ticket.work, flows.pop(own, ()))
    classes: defaultdict[Priority, list[float]] = defaultdict(list)
    for (priority, _, _), works in flows.items():
        classes[priority].append(sum(works))
    work = _shared(work, classes.pop(ticket.priority, ()))
    return work + sum(
        min(sum(works), work * WEIGHTS[priority] / WEIGHTS[ticket.priority]) for priority, works in classes.items()
    )


def _shared(work: float, others: Sequence[float]) -> float:
    return work + sum(min(other, work) for other in others)
