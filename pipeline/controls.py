"""Control pictures as a request brings them: the one check of them, and the work before the walk begins."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from PIL import Image

from components.contract import Contract
from components.messages import Control, ControlFeatures, ControlPicture, ImageRequest
from pipeline.adapter import Adapter
from pipeline.checks import check_number
from pipeline.controlnet import ControlNet
from pipeline.errors import RequestError, refuse
from pipeline.held import require_control
from pipeline.request import RequestRules
from pipeline.source_pictures import image_pixels


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlFields:
    """How a control picture holds a walk, as it came, types unchecked; None takes the default of `Control`."""

    scale: float | None = None
    start: float | None = None
    end: float | None = None


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ControlBy(ControlFields):
    """A control picture, and the opened component that it is for."""

    model: ControlNet | Adapter
    image: Image.Image


class Controls(NamedTuple):
    """What holds the walks of a request: pictures with their ControlNets, in one order, and features."""

    pictures: tuple[ControlPicture, ...] = ()
    nets: tuple[ControlNet, ...] = ()
    features: tuple[ControlFeatures, ...] = ()


def check_controls(given: Sequence[ControlFields], rules: RequestRules) -> list[Control]:
    """Fill in the defaults and check every field, before any picture is decoded.

    Raises:
        RequestError: there are more than a request may have, or a field is outside its limits.
    """
    if len(given) > rules.max_controls:
        raise RequestError("controls", f"controls: has {len(given)} pictures, must have at most {rules.max_controls}")
    return [_checked(f"controls[{number}]", each, rules) for number, each in enumerate(given)]


def require_controls(controls: Sequence[Contract], denoiser: Contract) -> None:
    """Refuse ControlNets and adapters that the denoiser of a contract cannot be held by.

    Raises:
        RequestError: naming every mismatch of the first one.
    """
    for contract in controls:
        require_control(contract, denoiser)


def prepare(given: Sequence[ControlBy], request: ImageRequest, denoiser: Contract, rules: RequestRules) -> Controls:
    """Check the controls of a request, make their pictures the size that is drawn, and run the adapters.

    Pictures are resized as control image processors of diffusers do: `image_pixels`.

    Raises:
        RequestError: a field is outside its limits, a component is not for the denoiser, or a picture has too many
            pixels or cannot be read.
        RuntimeFault: an adapter's session could not run.
    """
    checked = check_controls(given, rules)
    require_controls([each.model.contract for each in given], denoiser)
    pictures, nets, features = [], [], []
    for number, (each, control) in enumerate(zip(given, checked, strict=True)):
        field = f"controls[{number}].image"
        pixels = image_pixels(each.image, request.width, request.height, rules.max_source_pixels, field)
        how = {"scale": control.scale, "start": control.start, "end": control.end}
        if isinstance(each.model, ControlNet):
            pictures.append(ControlPicture(**how, pixels=pixels))
            nets.append(each.model)
        else:
            features.append(ControlFeatures(**how, arrays=each.model.features(pixels)))
    return Controls(tuple(pictures), tuple(nets), tuple(features))


def _checked(field: str, given: ControlFields, rules: RequestRules) -> Control:
    default = Control()
    scale = default.scale if given.scale is None else given.scale
    start = default.start if given.start is None else given.start
    end = default.end if given.end is None else given.end
    check_number(f"{field}.scale", scale, rules.max_control_scale)
    check_number(f"{field}.start", start, 1.0)
    check_number(f"{field}.end", end, 1.0)
    if not start < end:
        raise refuse(f"{field}.start", start, f"less than its end, {end:g}")
    return Control(scale=float(scale), start=float(start), end=float(end))
