"""How a request ended, for each of the versions that it was pinned to."""

from http import HTTPStatus

from ray.exceptions import TaskCancelledError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError

from components.contract import Kind
from components.reference import ComponentRef
from pipeline.errors import RequestError
from services.errors import BesideError, NonFiniteImageError, ServingError
from services.messages import OVERRIDABLE, Drawn, Order, Outcome

# it never reached the stages, what it asks for cannot be drawn, or what it brought in beside is at fault
_NO_FAULT = (
    BackPressureError,
    DeploymentUnavailableError,
    BesideError,
    RequestError,
    TaskCancelledError,
)


def outcomes_of(order: Order, end: Drawn | Exception) -> list[Outcome]:
    """The outcomes of an order that was drawn, or that ended in an error.

    What was refused for a reason, or came too late, says nothing about a version.
    """
    pins = [order.pins[kind] for kind in OVERRIDABLE if kind in order.pins]
    if isinstance(end, Drawn):
        at_fault = _at_fault(order, end)
        return [Outcome(pin, non_finite=pin == at_fault) for pin in pins]
    if isinstance(end, NonFiniteImageError):
        return [Outcome(pin, error=True, non_finite=True) if pin == end.pin else Outcome(pin) for pin in pins]
    if isinstance(end, _NO_FAULT):
        return []
    if isinstance(end, ServingError) and end.status != HTTPStatus.INTERNAL_SERVER_ERROR:
        return []
    return [Outcome(pin, error=True) for pin in pins]


def _at_fault(order: Order, drawn: Drawn) -> ComponentRef | None:
    decoder = order.pins[Kind.VAE_DECODER]
    replaced = any(one.decoder not in (None, decoder) for one in drawn.pictures)
    return decoder if replaced else None
