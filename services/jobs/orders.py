"""An order as the store keeps it: JSON, and a file of arrays for the pictures that it brings."""

import io
from collections.abc import Iterable
from dataclasses import fields, replace
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from components.contract import Contract, Kind
from components.messages import ImageRequest, Overlay, Source
from components.reference import ComponentRef
from services.messages import Encoding, Order, Terms


class _Written(BaseModel):
    """Every field of an order but its pictures."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    request: ImageRequest
    pins: dict[Kind, ComponentRef]
    encoding: Encoding
    terms: Terms
    id: str
    fallback: ComponentRef | None
    shadow: ComponentRef | None
    store_latents: bool
    contract: Contract | None
    laid_size: tuple[int, int] | None = None
    beside: tuple[ComponentRef, ...] = ()


_OVERLAY = "overlay."
_ARRAYS = tuple(field.name for field in fields(Source) if field.name != "overlay")
_KEPT = tuple(_Written.model_fields)
_LISTS = ("controls", "image_prompts")
_PICTURES = ("source", *_LISTS)


def written(order: Order) -> str:
    """An order without its pictures, as JSON."""
    assert {*_KEPT, *_PICTURES} == {field.name for field in fields(Order)}, "a field would be lost"
    return _Written(**{name: getattr(order, name) for name in _KEPT}).model_dump_json()


def read(text: str, pictures: bytes | None = None) -> Order:
    """The order that was written; without its pictures where they are not given.

    Raises:
        ValueError: it was written by another release, or is damaged.
    """
    found = _Written.model_validate_json(text)
    parts = {name: getattr(found, name) for name in _KEPT}
    return Order(**parts, **({} if pictures is None else _read_pictures(pictures)))


def without_texts(order: Order) -> Order:
    """What stays of an order once its job has ended: nothing of its texts and its pictures."""
    request = order.request.without_texts()
    return replace(order, request=request, source=None, controls=(), image_prompts=())


def written_pictures(order: Order) -> bytes | None:
    """The arrays of an order's pictures, in a file with a checksum of each; None where there are none."""
    source = order.source
    arrays = {} if source is None else {name: getattr(source, name) for name in _ARRAYS}
    arrays |= {f"{name}_{number}": pixels for name in _LISTS for number, pixels in enumerate(getattr(order, name))}
    if not arrays:
        return None
    if source is not None and source.overlay is not None:
        whole = source.overlay
        arrays |= {f"{_OVERLAY}{field.name}": np.asarray(getattr(whole, field.name)) for field in fields(Overlay)}
    out = io.BytesIO()
    np.savez_compressed(out, **{name: array for name, array in arrays.items() if array is not None})
    return out.getvalue()


def _read_pictures(content: bytes) -> dict[str, Any]:
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        found = {name: arrays[name] for name in arrays.files}
    lists = {name: tuple(found.pop(f"{name}_{number}") for number in range(_count(found, name))) for name in _LISTS}
    laid = {name.removeprefix(_OVERLAY): found.pop(name) for name in [*found] if name.startswith(_OVERLAY)}
    overlay = None
    if laid:
        left, top, right, bottom = map(int, laid.pop("box"))
        overlay = Overlay(**laid, box=(left, top, right, bottom))
    return {"source": Source(**found, overlay=overlay) if found else None, **lists}


def _count(names: Iterable[str], of: str) -> int:
    return sum(name.startswith(f"{of}_") for name in names)
