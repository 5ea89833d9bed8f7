"""Where compiled copies are kept, and how many."""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


def _absolute(path: Path) -> Path:
    return path.expanduser().absolute()


class CompilerSettings(BaseModel):
    """The folder of compiled copies on this node and its bounds, in bytes.

    The defaults for small components and for the disk are those of docs/compiled-copies.md.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    folder: Annotated[Path, AfterValidator(_absolute)] = Field(
        Path("~/.latentworks/compiled"), description="compiled copies, on a local disk that the node's replicas share"
    )
    most_bytes: int = Field(20_000_000_000, ge=0, description="of all copies; 0: no copy is made or used")
    min_free_bytes: int = Field(
        2_000_000_000, ge=0, description="what must stay free on the disk; a copy that would leave less is not made"
    )
    min_weight_bytes: int = Field(
        16_000_000, ge=0, description="the least weights that are compiled; smaller ones open in no time as they are"
    )
