"""What a deployer may set of the stages' deployments."""

from typing import Annotated, Literal

from pydantic import Field

from pipeline.text_encoder import CACHE_BYTES
from runtime.settings import SessionSettings
from services.deployment_args import CalledArgs, Cpus, Ongoing, RestingArgs, WorkedArgs
from services.held_versions import VersionBounds

Threads = Annotated[int | None, Field(ge=1, le=1024, description="of one session; unset: every core")]


class StageArgs(RestingArgs):
    """A stage's deployment: each of its `max_ongoing_requests` calls has a thread, and shares the session's threads."""

    max_ongoing_requests: Annotated[Ongoing, Field(le=1000)] = 4
    threads: Threads = None
    most_versions: int = Field(4, ge=2, le=1000, description="versions that a replica holds open at most")
    most_version_bytes: int = Field(
        32 * 2**30, ge=1, le=2**50, description="the most weights of them; one in use is never closed"
    )
    provider: Literal["auto", "cpu", "cuda", "tensorrt"] = Field(
        "auto", description="what runs the session: auto takes CUDA where it attaches; a named one attaches or fails"
    )

    @property
    def versions(self) -> VersionBounds:
        """How much a replica holds."""
        return VersionBounds(most=self.most_versions, most_bytes=self.most_version_bytes)

    @property
    def session(self) -> SessionSettings:
        """What the runtime needs to know."""
        return SessionSettings(threads=self.threads, provider=self.provider)


class BesideArgs(StageArgs, CalledArgs):
    """What only some requests need: no replica runs while nobody does."""

    # the first request finds a place for it where everything else has taken the processors
    num_cpus: Cpus = 0
    replicas: int = Field(
        0, ge=0, le=1000, description="how many replicas run; with `max_replicas` the fewest, and 0: none while unused"
    )
    max_replicas: int | None = Field(
        1, ge=1, le=1000, description="how many may run while there is much to do; unset: `replicas` always"
    )


class TextEncoderArgs(StageArgs, CalledArgs):
    """The text encoder: one short run a request gains nothing from more threads."""

    threads: Threads = 1
    cache_bytes: int = Field(
        CACHE_BYTES,
        ge=0,
        le=2**40,
        description="the most bytes of conditioning that a replica keeps, for each version held, for texts that come "
        "again; 0: none",
    )


class ThirdTextEncoderArgs(BesideArgs, TextEncoderArgs):
    """The third text encoder of SD 3, T5, where the bundle has it. No replica runs while nobody asks for it."""

    threads: Threads = None


class DenoiserArgs(StageArgs, WorkedArgs):
    """The denoiser: nearly all of the work. Its calls share the U-Net's runs, and wait for them in the replica.

    So a replica takes far more calls than run at a time: those beyond would wait in Serve, where nobody is fair.
    """

    num_cpus: Cpus = 0.5
    max_ongoing_requests: Ongoing = 1000
    run_rows: int = Field(
        8, ge=2, le=1024, description="the most rows of one U-Net run; a picture with guidance takes two"
    )
    run_pixels: int | None = Field(
        None,
        ge=1,
        le=2**40,
        description="the most latent pixels of one U-Net run, all rows together; unset: as many as `run_rows` rows of "
        "the bundle's own size have, or the two of the largest picture that may be asked for",
    )
    queued_pictures: int = Field(
        64,
        ge=1,
        le=10**6,
        description="how much work may wait in a replica, in pictures of the bundle's own size and the default steps; "
        "over it comes 429",
    )
    most_controlnets: int = Field(
        4,
        ge=2,
        le=1000,
        description="ControlNets that a replica holds open at most, from the first request that names one",
    )
    most_controlnet_bytes: int = Field(
        32 * 2**30, ge=1, le=2**50, description="the most weights of them; one in use is never closed"
    )

    most_loras: int = Field(
        16, ge=2, le=1000, description="LoRAs that a replica keeps at most, from the first request that names one"
    )
    most_lora_bytes: int = Field(
        2**30, ge=1, le=2**50, description="the most weights of them; one in use is never let go of"
    )

    @property
    def loras(self) -> StageArgs:
        """How the LoRAs are held that rows of the U-Net are drawn with."""
        return StageArgs(
            max_ongoing_requests=1, threads=1, most_versions=self.most_loras, most_version_bytes=self.most_lora_bytes
        )

    @property
    def controlnets(self) -> StageArgs:
        """How the ControlNets are held that run beside the U-Net."""
        return StageArgs(
            max_ongoing_requests=1,
            threads=self.threads,
            most_versions=self.most_controlnets,
            most_version_bytes=self.most_controlnet_bytes,
            provider=self.provider,
        )


class VaeDecoderArgs(StageArgs, CalledArgs):
    """The VAE decoder: the rest of it."""

    num_cpus: Cpus = 0.3


class VaeEncoderArgs(StageArgs, CalledArgs):
    """The VAE encoder: pictures that are to be edited."""


class AdapterArgs(BesideArgs):
    """T2I-Adapters: control pictures to features, once a request. No replica runs while nobody asks for any."""


class ImageEncoderArgs(BesideArgs):
    """The image encoder: pictures to be like, once a request. No replica runs while nobody asks for any."""
