"""What the rollout controller needs to know."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from registry.gate.examine import GateSettings
from registry.settings import RegistrySettings


class RolloutSettings(BaseModel):
    """Which bundle is served; `folder`, where given, is published first unless the registry has it already."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bundle: str
    folder: Path | None
    registry: RegistrySettings
    poll_s: float = Field(1.0, gt=0)
    prepare_s: float = Field(600.0, gt=0)
    gate: GateSettings = GateSettings()

    @property
    def memory(self) -> Path:
        """The file that keeps what is live, for a start without the registry."""
        return self.registry.home / "rollout" / f"{self.bundle}.json"
