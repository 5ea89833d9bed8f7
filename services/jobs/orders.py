"""An order as the store keeps it: JSON, and a file of arrays for what its pictures start from."""

import io
from dataclasses import fields, replace

import numpy as np
from pydantic import BaseModel, ConfigDict

from components.contract import Contract, Kind
from components.messages import ImageRequest, Overlay, Source
from components.reference import ComponentRef
from services.messages import Encoding, Order, Terms


class _Written(BaseModel):
    """Every field of an order but its source."""

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


_OVERLAY = "overlay."
_ARRAYS = tuple(field.name for field in fields(Source) if field.name != "overlay")
_KEPT = tuple(_Written.model_fields)


def written(order: Order) -> str:
    """An order without its source, as JSON."""
    assert {*_KEPT, "source"} == {field.name for field in fields(Order)}, "a field would be lost"
    return _Written(**{name: getattr(order, name) for name in _KEPT}).model_dump_json()


def read(text: str, source: bytes | None = None) -> Order:
    """The order that was written.

    Raises:
        ValueError: it was written by another release, or is damaged.
    """
    found = _Written.model_validate_json(text)
    parts = {name: getattr(found, name) for name in _KEPT}
    return Order(**parts, source=None if source is None else _read_source(source))


def without_texts(order: Order) -> Order:
    """What stays of an order once its job has ended: nothing of its texts and its picture."""
    return replace(order, request=order.request.without_texts(), source=None)


def written_source(source: Source | None) -> bytes | None:
    """The arrays of a source, in a file with a checksum of each; None where there is none."""
    if source is None:
        return None
    out, overlay = io.BytesIO(), source.overlay
    arrays = {name: getattr(source, name) for name in _ARRAYS}
    if overlay is not None:
        arrays |= {f"{_OVERLAY}{field.name}": np.asarray(getattr(overlay, field.name)) for field in fields(Overlay)}
    np.savez_compressed(out, **{name: array for name, array in arrays.items() if array is not None})
    return out.getvalue()


def _read_source(content: bytes) -> Source:
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        found = {name: arrays[name] for name in arrays.files}
    laid = {name.removeprefix(_OVERLAY): found.pop(name) for name in [*found] if name.startswith(_OVERLAY)}
    overlay = None
    if laid:
        left, top, right, bottom = map(int, laid.pop("box"))
        overlay = Overlay(**laid, box=(left, top, right, bottom))
    return Source(**found, overlay=overlay)
