"""The base of everything that is read from or written to `component.json`."""

from pydantic import BaseModel, ConfigDict


class Record(BaseModel):
    """Frozen; an unknown name, NaN and infinity are errors. JSON from outside is read with `strict=True`."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
