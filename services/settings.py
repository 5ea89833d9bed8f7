"""What a deployer may set: one typed record for the graph, one in it for each deployment."""

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from pipeline.request import RequestRules
from registry.settings import RegistrySettings
from runtime.settings import SessionSettings

PREFIX = "LATENTWORKS_"


class DeploymentArgs(BaseModel):
    """Replicas of one deployment and what Ray sets aside for each.

    `num_cpus` and `num_gpus` only place replicas and may be fractions; they bound nothing. A stopping replica has
    `graceful_shutdown_timeout_s` seconds for what it works on.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    replicas: int = Field(1, ge=1, le=1000)
    num_cpus: float = Field(0.1, ge=0)
    num_gpus: float = Field(0, ge=0)
    max_ongoing_requests: int = Field(100, ge=1, description="calls that a replica takes at a time; others queue")
    graceful_shutdown_timeout_s: float = Field(120, ge=0)


class StageArgs(DeploymentArgs):
    """A stage's deployment: each of its `max_ongoing_requests` calls has a thread, and shares the session's threads."""

    max_ongoing_requests: int = Field(4, ge=1, le=1000)
    threads: int | None = Field(None, ge=1, le=1024, description="of one session; null: every core")
    provider: Literal["auto", "cpu", "cuda", "tensorrt"] = "auto"

    @property
    def session(self) -> SessionSettings:
        """What the runtime needs to know."""
        return SessionSettings(threads=self.threads, provider=self.provider)


class TextEncoderArgs(StageArgs):
    """The text encoder: one short run a request gains nothing from more threads."""

    threads: int | None = Field(1, ge=1, le=1024, description="of one session; null: every core")


class DenoiserArgs(StageArgs):
    """The denoiser: nearly all of the work."""

    num_cpus: float = Field(0.5, ge=0)


class VaeDecoderArgs(StageArgs):
    """The VAE decoder: the rest of it."""

    num_cpus: float = Field(0.3, ge=0)


class IngressArgs(DeploymentArgs):
    """The HTTP deployment: `max_images` bounds the pictures admitted and not answered; over it comes 429.

    It takes many more calls at a time than it admits, so that a refusal, `/readyz` or `/metrics` never queues.
    """

    max_ongoing_requests: int = Field(1000, ge=1)
    max_images: int = Field(64, ge=1, description="admitted and not answered yet, in one ingress replica")
    retry_after_s: int = Field(2, ge=1, le=3600, description="what a refused caller is told to wait")


class GraphArgs(BaseSettings):
    """Everything that `ray_app.build` takes; what is not given comes from the environment, and else from here.

    An environment variable is the field's name in capitals after `LATENTWORKS_`, with `__` between the parts
    (`LATENTWORKS_DENOISER__REPLICAS`); an argument of `serve run` may use dots (`denoiser.replicas=2`). The registry
    has its own variables, see `RegistrySettings`. `folder` holds the bundle's components, which the first start
    publishes; without one the registry must have them.
    """

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix=PREFIX, env_nested_delimiter="__", allow_inf_nan=False
    )

    bundle: str = Field("emoji", pattern=r"^[a-z0-9][a-z0-9_-]*$")
    folder: Path | None = Field(None, description="unset: models/BUNDLE beside ray_app.py, where that is there")
    registry: RegistrySettings = Field(default_factory=RegistrySettings.from_environment)
    rules: RequestRules = RequestRules()
    catalog: DeploymentArgs = DeploymentArgs()
    text_encoder: TextEncoderArgs = TextEncoderArgs()
    denoiser: DenoiserArgs = DenoiserArgs()
    vae_decoder: VaeDecoderArgs = VaeDecoderArgs()
    vae_encoder: StageArgs = StageArgs()
    graph: DeploymentArgs = DeploymentArgs()
    ingress: IngressArgs = IngressArgs()

    @model_validator(mode="before")
    @classmethod
    def _nest(cls, given: Any) -> Any:
        """Turn `{"denoiser.replicas": 2}` into `{"denoiser": {"replicas": 2}}`: serve's command line is flat."""
        nested: dict[str, Any] = {}
        for key, value in given.items():
            *path, last = key.split(".")
            at = nested
            for part in path:
                at = at.setdefault(part, {})
                if not isinstance(at, dict):
                    raise ValueError(f"{key}: {part} is given as a whole too")
            at[last] = value
        return nested
