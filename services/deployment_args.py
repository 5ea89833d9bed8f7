"""What a deployer may set of every deployment."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Cpus = Annotated[float, Field(ge=0, description="what Ray sets aside for a replica, to place it; it bounds nothing")]
Ongoing = Annotated[int, Field(ge=1, description="calls that a replica takes at a time; others queue")]


class DeploymentArgs(BaseModel):
    """Replicas of one deployment and what Ray sets aside for each.

    `num_cpus` and `num_gpus` only place replicas and may be fractions; they bound nothing. A stopping replica has
    `graceful_shutdown_timeout_s` seconds for what it works on.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    replicas: int = Field(1, ge=1, le=1000, description="how many replicas run")
    num_cpus: Cpus = 0.1
    num_gpus: float = Field(0, ge=0, description="the same, of GPUs")
    max_ongoing_requests: Ongoing = 100
    graceful_shutdown_timeout_s: float = Field(120, ge=0, description="what a stopping replica has for its last calls")
    health_check_period_s: float = Field(
        2, gt=0, le=3600, description="how often a replica is asked whether it can work; one that died is found so"
    )
