"""What a request names itself beside the bundle's parts: which versions these are, and whether they fit."""

from dataclasses import replace

from components.contract import CONTROL_PREFIXES, Contract
from components.messages import ImageRequest
from components.reference import DEFAULT_ALIAS, ComponentRef
from pipeline.errors import RequestError
from pipeline.held import is_controllable, require_control
from services.errors import FieldError
from services.ingress.orders.pinning import Pinning, check_selector


def require_controllable(request: ImageRequest, denoiser: Contract) -> None:
    """Refuse control pictures for a denoiser that nothing holds, before anybody is asked for what holds it.

    Raises:
        RequestError: there are some.
    """
    if request.controls and not is_controllable(denoiser):
        raise RequestError("controls", "controls: must be left out, as this model takes none")


async def named(
    pinning: Pinning, request: ImageRequest, denoiser: Contract
) -> tuple[ImageRequest, tuple[ComponentRef, ...]]:
    """A request by exact versions of what it names, and these; each fits the denoiser of the contract.

    Raises:
        FieldError: there is none such, it is of another kind, has not passed the gate, or does not fit.
        UnavailableError: it is not known yet, and the registry does not answer.
    """
    controls, pins = [], []
    for number, choice in enumerate(request.controls):
        field = f"controls[{number}].model"
        selector = whole_selector(choice.model)
        kind = check_selector(tuple(CONTROL_PREFIXES), selector, field)
        pin, contract = await pinning.component(kind, selector, field)
        try:
            require_control(contract, denoiser, field)
        except RequestError as error:
            raise FieldError(error.message, error.field) from None
        controls.append(replace(choice, model=str(pin)))
        pins.append(pin)
    return replace(request, controls=tuple(controls)), tuple(dict.fromkeys(pins))


def whole_selector(text: str) -> str:
    """A selector of which a name alone means what is in production."""
    return text if "@" in text or "/" in text else f"{text}@{DEFAULT_ALIAS}"
