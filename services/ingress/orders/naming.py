"""What a request names itself beside the bundle's parts: which versions these are, and whether they fit."""

from collections.abc import Collection
from dataclasses import replace

from components.compatibility import compatible
from components.contract import CONTROL_PREFIXES, Contract, Kind, Preprocessing
from components.lora import adapted_layers, lora_differences
from components.messages import ControlChoice, ImageRequest, LoraChoice
from components.reference import DEFAULT_ALIAS, ComponentRef, registered_name
from pipeline.errors import RequestError
from pipeline.held import is_controllable, require_control
from services.errors import FieldError
from services.ingress.orders.pinning import Pinning, check_selector
from services.messages import Pins


def require_nameable(request: ImageRequest, denoiser: Contract) -> None:
    """Refuse control pictures and LoRAs for a denoiser that takes none, before anybody is asked for them.

    Raises:
        RequestError: there are some.
    """
    if request.controls and not is_controllable(denoiser):
        raise RequestError("controls", "controls: must be left out, as this model takes none")
    if request.loras and not adapted_layers(denoiser.inputs):
        raise RequestError("loras", "loras: must be left out, as this model takes none")


async def named(
    pinning: Pinning, request: ImageRequest, denoiser: Contract
) -> tuple[ImageRequest, tuple[ComponentRef, ...]]:
    """A request by exact versions of what it names, and these; each fits the denoiser of the contract.

    Raises:
        FieldError: there is none such, it is of another kind, has not passed the gate, or does not fit.
        UnavailableError: it is not known yet, and the registry does not answer.
    """
    controls = [await _control(pinning, number, one, denoiser) for number, one in enumerate(request.controls)]
    loras = [await _lora(pinning, number, one, denoiser) for number, one in enumerate(request.loras)]
    pins = [pin for pin, _ in loras]
    for number, pin in enumerate(pins):
        if pin in pins[:number]:
            field = f"loras[{number}].model"
            raise FieldError(f"{field}: {pin} must be named once", field)
    exact = replace(
        request,
        controls=tuple(choice for _, choice in controls),
        loras=tuple(choice for _, choice in loras),
    )
    return exact, tuple(dict.fromkeys(pin for pin, _ in (*controls, *loras)))


async def _control(
    pinning: Pinning, number: int, choice: ControlChoice, denoiser: Contract
) -> tuple[ComponentRef, ControlChoice]:
    field = f"controls[{number}].model"
    pin, contract = await _version(pinning, tuple(CONTROL_PREFIXES), choice.model, field)
    try:
        require_control(contract, denoiser, field)
    except RequestError as error:
        raise FieldError(error.message, error.field) from None
    return pin, replace(choice, model=str(pin))


async def _lora(
    pinning: Pinning, number: int, choice: LoraChoice, denoiser: Contract
) -> tuple[ComponentRef, LoraChoice]:
    field = f"loras[{number}].model"
    pin, contract = await _version(pinning, (Kind.LORA,), choice.model, field)
    if found := lora_differences(contract, denoiser):
        # there may be one for every layer
        more = f", and {len(found) - 1} more" if len(found) > 1 else ""
        raise FieldError(f"{field}: {pin} is for another denoiser: {found[0]}{more}", field)
    return pin, replace(choice, model=str(pin))


async def _version(pinning: Pinning, kinds: Collection[Kind], text: str, field: str) -> tuple[ComponentRef, Contract]:
    """What a selector means, of which a name alone is what is in production."""
    selector = text if "@" in text or "/" in text else f"{text}@{DEFAULT_ALIAS}"
    return await pinning.component(check_selector(kinds, selector, field), selector, field)


async def with_image_encoder(pinning: Pinning, pins: Pins, denoiser: Contract) -> tuple[Pins, Preprocessing]:
    """Pins with the image encoder of the denoiser's bundle, unless they have one, and what it does to pictures.

    Raises:
        FieldError: there is none in production, it has not passed the gate, or does not fit the denoiser.
        UnavailableError: it is not known yet, and the registry does not answer.
    """
    field, kind = "image_prompts", Kind.IMAGE_ENCODER
    bundle = pins[Kind.DENOISER].name.split(".")[0]
    known = pins.get(kind)
    selector = f"{registered_name(bundle, kind)}@{DEFAULT_ALIAS}" if known is None else str(known)
    pin, contract = await pinning.component(kind, selector, field)
    if found := compatible(contract, denoiser):
        raise FieldError(f"{field}: {pin} does not fit: {'; '.join(found)}", field)
    assert contract.preprocessing is not None, "an image encoder's contract has it"
    return {**pins, kind: pin}, contract.preprocessing
