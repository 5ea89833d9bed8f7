"""What a deployer may set of every deployment, and what Ray Serve is told of it."""

from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Cpus = Annotated[float, Field(ge=0, description="what Ray sets aside for a replica, to place it; it bounds nothing")]
Ongoing = Annotated[int, Field(ge=1, description="calls that a replica takes at a time; others queue")]

# the label of nodes that `pool` asks for
POOL_LABEL = "pool"
# as Kubernetes and Ray have the values of labels
_LABEL = r"^[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$"


class DeploymentArgs(BaseModel):
    """One deployment: where its replicas are placed, and how they end.

    `num_cpus` and `num_gpus` only place replicas and may be fractions; they bound nothing. A stopping replica has
    `graceful_shutdown_timeout_s` seconds for what it works on. Alone, this is a deployment of one replica and never
    two, not even while it is exchanged.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    pool: str | None = Field(
        None, pattern=_LABEL, description="replicas run on nodes whose Ray label `pool` is this; unset: on any node"
    )
    num_cpus: Cpus = 0.1
    num_gpus: float = Field(0, ge=0, description="the same, of GPUs")
    max_ongoing_requests: Ongoing = 100
    graceful_shutdown_timeout_s: float = Field(120, ge=0, description="what a stopping replica has for its last calls")
    health_check_period_s: float = Field(
        2, gt=0, le=3600, description="how often a replica is asked whether it can work; one that died is found so"
    )

    @property
    def most_replicas(self) -> int:
        """How many run at a time, those aside that are being exchanged."""
        return 1

    def serve_options(self) -> dict[str, Any]:
        """The options of the deployment as Ray Serve names them, in code and in its config file."""
        return {
            **self._scale(),
            "max_ongoing_requests": self.max_ongoing_requests,
            "graceful_shutdown_timeout_s": self.graceful_shutdown_timeout_s,
            "health_check_period_s": self.health_check_period_s,
            "ray_actor_options": self._actor(),
        }

    def _scale(self) -> dict[str, Any]:
        return {"num_replicas": 1}

    def _actor(self) -> dict[str, Any]:
        options: dict[str, Any] = {"num_cpus": self.num_cpus, "num_gpus": self.num_gpus}
        if self.pool is not None:
            options["label_selector"] = {POOL_LABEL: self.pool}
        return options


class ScaledArgs(DeploymentArgs):
    """A deployment of any number of replicas."""

    replicas: int = Field(1, ge=1, le=1000, description="how many replicas run; with `max_replicas` the fewest")
    max_replicas: int | None = Field(
        None, ge=1, le=1000, description="how many may run while there is much to do; unset: `replicas` always"
    )
    upscale_delay_s: float = Field(
        30, ge=0, le=86_400, description="with `max_replicas`: for how long more are needed before they start"
    )
    downscale_delay_s: float = Field(
        600, ge=0, le=86_400, description="with `max_replicas`: for how long fewer would do before some stop"
    )
    max_replicas_per_node: int | None = Field(None, ge=1, le=100, description="on one node; unset: any number")
    surge_percent: int = Field(
        100,
        ge=0,
        le=100,
        description="while replicas are exchanged for ones with other options: how many more may run, so that new ones "
        "start before old ones stop; 0: an old one stops first",
    )

    @property
    def most_replicas(self) -> int:
        """How many run at a time, those aside that are being exchanged."""
        return self.replicas if self.max_replicas is None else self.max_replicas

    def _scale(self) -> dict[str, Any]:
        options: dict[str, Any] = {"max_surge_percent": self.surge_percent}
        if self.max_replicas_per_node is not None:
            options["max_replicas_per_node"] = self.max_replicas_per_node
        if self.max_replicas is None:
            return {"num_replicas": self.replicas, **options}
        return {"autoscaling_config": self._autoscaling(self.max_replicas), **options}

    def _autoscaling(self, most: int) -> dict[str, Any]:
        return {
            "min_replicas": self.replicas,
            "max_replicas": most,
            "upscale_delay_s": self.upscale_delay_s,
            "downscale_delay_s": self.downscale_delay_s,
        }

    @model_validator(mode="after")
    def _bounds_in_order(self) -> Self:
        if self.max_replicas is not None and self.max_replicas < self.replicas:
            raise ValueError(f"max_replicas={self.max_replicas}: must be at least replicas, which is {self.replicas}")
        return self


class RestingArgs(ScaledArgs):
    """A deployment that may rest: of which no replica runs while nobody needs one."""

    replicas: int = Field(
        1,
        ge=0,
        le=1000,
        description="how many replicas run; with `max_replicas` the fewest, and 0: none while nobody needs one",
    )
    downscale_to_zero_delay_s: float | None = Field(
        None,
        ge=0,
        le=86_400,
        description="with `replicas` 0: for how long none is needed before the last stops; unset: `downscale_delay_s`",
    )

    def _autoscaling(self, most: int) -> dict[str, Any]:
        options = super()._autoscaling(most)
        if self.downscale_to_zero_delay_s is not None:
            options["downscale_to_zero_delay_s"] = self.downscale_to_zero_delay_s
        return options

    @model_validator(mode="after")
    def _one_may_start(self) -> Self:
        if self.replicas == 0 and self.max_replicas is None:
            raise ValueError("replicas=0: needs max_replicas, without which no replica would ever start")
        return self


class CalledArgs(ScaledArgs):
    """A deployment whose replicas are as busy as they have calls."""

    ongoing_target: float = Field(
        2, gt=0, le=10_000, description="with `max_replicas`: the calls at a time that each replica is to have"
    )

    def _autoscaling(self, most: int) -> dict[str, Any]:
        return {**super()._autoscaling(most), "target_ongoing_requests": self.ongoing_target}


class WorkedArgs(ScaledArgs):
    """A deployment whose replicas tell how much work waits in them, and how fast it is done."""

    work_target_s: float = Field(
        5,
        gt=0,
        le=86_400,
        description="with `max_replicas`: as many replicas run as have all waiting work done in so many seconds, "
        "at the speed that was measured",
    )

    def _autoscaling(self, most: int) -> dict[str, Any]:
        policy = {"policy_function": "services.scaling:WorkPolicy", "policy_kwargs": {"wait_s": self.work_target_s}}
        return {**super()._autoscaling(most), "policy": policy}


# of all of these: what Serve is told of a deployment
TOLD_TO_SERVE = frozenset((*RestingArgs.model_fields, *CalledArgs.model_fields, *WorkedArgs.model_fields))
