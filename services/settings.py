"""What a deployer may set: one typed record for the graph, one in it for each deployment."""

from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from compiler.settings import CompilerSettings
from pipeline.request import RequestRules
from registry.gate.examine import GateSettings
from registry.settings import VARIABLES, Folder, RegistrySettings
from services.deployment_args import CalledArgs, Cpus, DeploymentArgs, Ongoing
from services.files.blobs import Place
from services.jobs.settings import JobsArgs
from services.keys.settings import KeySettings
from services.stage_args import (
    AdapterArgs,
    DenoiserArgs,
    ImageEncoderArgs,
    TextEncoderArgs,
    ThirdTextEncoderArgs,
    VaeDecoderArgs,
    VaeEncoderArgs,
)
from services.timelines.memory import TimelineSettings
from services.variables import NESTED, PREFIX

# variables of our prefix that other rooms read
_ELSEWHERE = (*VARIABLES, "LATENTWORKS_TRAINING", "LATENTWORKS_SERVER", "LATENTWORKS_SERVER_KEY")


_COPIES = CompilerSettings()


class CompilerArgs(BaseModel):
    """Compiled copies of components, one for all replicas of a node; see docs/compiled-copies.md."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    folder: Folder | None = Field(
        None, description="where they are, on a local disk; unset: `compiled` in the registry's home"
    )
    most_bytes: int = Field(_COPIES.most_bytes, ge=0, description="the most bytes of them; 0: none is made or used")
    min_free_bytes: int = Field(
        _COPIES.min_free_bytes,
        ge=0,
        description="what stays free on the disk; a copy that would leave less is not made",
    )
    min_weight_bytes: int = Field(
        _COPIES.min_weight_bytes, ge=0, description="the least weights that a copy is made of; smaller ones open fast"
    )

    def settings(self, home: Path) -> CompilerSettings:
        """What the compiler needs to know; `home` is the registry's."""
        folder = home / "compiled" if self.folder is None else self.folder
        return CompilerSettings(**{**self.model_dump(), "folder": folder})


class RolloutArgs(DeploymentArgs):
    """The rollout controller, which decides which versions are live; there is one."""

    max_ongoing_requests: Ongoing = 1000
    poll_s: float = Field(1.0, gt=0, le=3600, description="how often the registry is asked what has changed")
    prepare_s: float = Field(
        600.0,
        gt=0,
        le=86_400,
        description="what a replica has to fetch, open and warm up a version; then it is replaced, once",
    )
    gate: GateSettings = GateSettings()


class ChainArgs(CalledArgs):
    """The graph's deployment, which chains the stages."""

    max_ongoing_requests: Ongoing = 1000
    snapshot_every: int = Field(
        4, ge=1, description="evaluations between two snapshots of a walk, which goes on from the newest elsewhere"
    )
    shadows: int = Field(
        1,
        ge=0,
        le=100,
        description="answers whose pictures a candidate decodes at a time, in one replica; more are left out",
    )
    max_held: int = Field(
        16,
        ge=1,
        le=10**6,
        description="requests that wait for the first replica of a stage to start, in one replica of the graph; over "
        "it comes 429. Well under `ingress.max_images`, or they take the room of those that need no such stage",
    )
    write_prompts: bool = Field(
        True, description="whether pictures' files hold the prompts; without them a file cannot be drawn again"
    )


class LatentsArgs(DeploymentArgs):
    """The store of latents, which one replica looks after; `keep_s` after they came they go."""

    num_cpus: Cpus = 0.05
    store: Place | None = Field(
        None,
        description="where latents are kept: a folder of the replica's node, or `s3://BUCKET/PREFIX`, see "
        "docs/latents.md; unset: `latents` in the registry's home",
    )
    most_bytes: int = Field(
        2**30, ge=0, le=2**50, description="the most bytes of them; the oldest make room for new ones"
    )
    keep_s: float = Field(3600, gt=0, le=10**9, description="seconds for which they are kept")


class LinksArgs(BaseModel):
    """Pictures that `"response_format": "url"` asks for, which the replica of the latents looks after too."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    store: Place | None = Field(
        None,
        description="where pictures are kept: a folder of the replica's node, or `s3://BUCKET/PREFIX`, see "
        "docs/latents.md; unset: `pictures` in the registry's home",
    )
    most_bytes: int = Field(
        2**30, ge=0, le=2**50, description="the most bytes of them; the oldest make room for new ones"
    )
    keep_s: float = Field(3600, gt=0, le=10**9, description="seconds for which a link shows its picture")


class IngressArgs(CalledArgs):
    """The HTTP deployment: `max_images` bounds the pictures admitted and not answered; over it comes 429.

    It takes many more calls at a time than it admits, so that a refusal, `/readyz` or `/metrics` never queues.
    """

    max_ongoing_requests: Ongoing = 1000
    max_images: int = Field(64, ge=1, description="admitted and not answered yet, in one ingress replica")
    retry_after_s: int = Field(
        2,
        ge=1,
        le=3600,
        description="seconds that a refused caller is told to wait, where the denoiser does not know better",
    )
    public_url: str | None = Field(
        None,
        pattern=r"^https?://[^\s/?#@]+(/[^\s?#]*)?$",
        description="how callers reach this server, such as `https://pictures.example`, for links to pictures; unset: "
        "as the request says",
    )
    trust_forwarded: bool = Field(
        False,
        description="whether `x-forwarded-proto` and `x-forwarded-host` are believed where `public_url` is unset: only "
        "behind a proxy that sets both",
    )
    open: bool = Field(
        False, description="whether anybody is let in where there are no keys and other machines reach this server"
    )
    webhook_secret: SecretStr | None = Field(
        None, description="what MLflow signs its webhooks to `/v1/registry/webhook` with; unset: there is no such route"
    )


class _Environment(EnvSettingsSource):
    """The environment's variables of our prefix, each of which must be a setting."""

    def __call__(self) -> dict[str, Any]:
        known = [*_variables(self.settings_cls, PREFIX), *_ELSEWHERE]
        for name in sorted(map(str.upper, self.env_vars)):
            if name.startswith(PREFIX) and name not in known:
                (nearest,) = get_close_matches(name, known, n=1, cutoff=0)
                raise SettingsError(f"{name}: no such setting; the nearest is {nearest}")
        return super().__call__()

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        """Read the JSON of a part given as a whole; what is none is left to the part's own check, which names it."""
        try:
            return super().decode_complex_value(field_name, field, value)
        except ValueError:
            return value


def _variables(model: type[BaseModel], prefix: str) -> Iterator[str]:
    for field, info in model.model_fields.items():
        part = info.annotation
        # the registry reads its own variables, and a part of it given here would put them out of use
        if part is RegistrySettings:
            continue
        yield prefix + field.upper()
        if isinstance(part, type) and issubclass(part, BaseModel):
            yield from _variables(part, f"{prefix}{field.upper()}{NESTED}")


class GraphArgs(BaseSettings):
    """Everything that `ray_app.build` takes; what is not given comes from the environment, and else from here.

    An environment variable is the field's name in capitals after `LATENTWORKS_`, with `__` between the parts
    (`LATENTWORKS_DENOISER__REPLICAS`); an argument of `serve run` may use dots (`denoiser.replicas=2`). The registry
    has its own variables and none of this form, see `registry.settings.VARIABLES`. A variable that begins with
    `LATENTWORKS_` and is no setting ends the start. `folder` holds the bundle's components, which the first start
    publishes; without one the registry must have them.

    Raises:
        SettingsError: a variable is no setting.
        RegistryError: a variable of the registry cannot be used.
    """

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix=PREFIX, env_nested_delimiter=NESTED, allow_inf_nan=False
    )

    bundle: str = Field(
        "emoji",
        pattern=r"^[a-z0-9][a-z0-9_-]*$",
        description="which model is served: the first part of its components' names",
    )
    folder: Path | None = Field(None, description="unset: models/BUNDLE beside ray_app.py, where that is there")
    registry: RegistrySettings = Field(default_factory=RegistrySettings.from_environment)
    rules: RequestRules = RequestRules()
    compiler: CompilerArgs = CompilerArgs()
    rollout: RolloutArgs = RolloutArgs()
    text_encoder: TextEncoderArgs = TextEncoderArgs()
    denoiser: DenoiserArgs = DenoiserArgs()
    vae_decoder: VaeDecoderArgs = VaeDecoderArgs()
    vae_encoder: VaeEncoderArgs = VaeEncoderArgs()
    third_text_encoder: ThirdTextEncoderArgs = ThirdTextEncoderArgs()
    adapter: AdapterArgs = AdapterArgs()
    image_encoder: ImageEncoderArgs = ImageEncoderArgs()
    graph: ChainArgs = ChainArgs()
    latents: LatentsArgs = LatentsArgs()
    links: LinksArgs = LinksArgs()
    jobs: JobsArgs = JobsArgs()
    ingress: IngressArgs = IngressArgs()
    keys: KeySettings = KeySettings()
    timelines: TimelineSettings = TimelineSettings()

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource, *_: Any, **_others: Any
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take the arguments first, then the environment; no files."""
        return init_settings, _Environment(settings_cls)

    def require_room(self) -> None:
        """Refuse deployments that take fewer calls at a time than are admitted.

        Those beyond would queue in Serve's router, out of sight of priorities, deadlines and fair shares. It is for
        whoever has all arguments: the build of a graph has not those that a config file names in a deployment's entry.

        Raises:
            ValueError: one of them does.
        """
        admitted = self.ingress.max_images * self.ingress.most_replicas + self.jobs.at_once * self.rules.max_images
        for name, part in (("graph", self.graph), ("denoiser", self.denoiser)):
            if part.max_ongoing_requests <= admitted:
                raise ValueError(
                    f"{name}.max_ongoing_requests={part.max_ongoing_requests}: must be over {admitted}, "
                    "ingress.max_images times its most replicas and jobs.at_once times rules.max_images"
                )

    @field_validator("registry", mode="before")
    @classmethod
    def _with_the_registrys_variables(cls, given: Any) -> Any:
        # arguments for some of its settings must not put its variables for the others out of use
        if not isinstance(given, dict):
            return given
        return {**RegistrySettings.from_environment().model_dump(exclude_unset=True), **given}

    @model_validator(mode="after")
    def _room_for_the_largest_request(self) -> Self:
        # with less, such a request would be told to try again later for ever
        if self.ingress.max_images < self.rules.max_images:
            raise ValueError(
                f"ingress.max_images={self.ingress.max_images}: must be at least rules.max_images, "
                f"which is {self.rules.max_images}"
            )
        return self

    @model_validator(mode="after")
    def _keys_make_sense(self) -> Self:
        self.keys.require_sense()
        return self

    @model_validator(mode="before")
    @classmethod
    def _nest(cls, given: Any) -> Any:
        """Turn `{"denoiser.replicas": 2}` into `{"denoiser": {"replicas": 2}}`: serve's command line is flat."""
        nested: dict[str, Any] = {}
        # parts given as a whole first, whose pieces then join them
        for key, value in sorted(given.items(), key=lambda item: item[0].count(".")):
            *path, last = key.split(".")
            at = nested
            for part in path:
                at = at.setdefault(part, {})
                if not isinstance(at, dict):
                    raise ValueError(f"{key}: {part} is given as a whole too")
            at[last] = value
        return nested
