"""The base of everything that is read from or written to `component.json`."""

from pydantic import BaseModel, ConfigDict


class Record(BaseModel):
    """Frozen, strict about types, and an unknown name is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
