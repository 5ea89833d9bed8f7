"""Where the registry, its artifacts and the cache are: the one place that maps the environment to settings."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from registry.errors import RegistryError


def _absolute(path: Path) -> Path:
    return path.expanduser().absolute()


# Ray starts replicas in folders of its own: a relative path would mean another place in each of them.
Folder = Annotated[Path, AfterValidator(_absolute)]


class RegistrySettings(BaseSettings):
    """Read once where a process starts, then handed on; the alias of each field is its environment variable."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", populate_by_name=True, env_ignore_empty=True)

    home: Folder = Field(
        Path("~/.latentworks"), validation_alias="LATENTWORKS_HOME", validate_default=True, description="our own folder"
    )
    tracking_uri: str | None = Field(
        None,
        validation_alias="MLFLOW_TRACKING_URI",
        description="an MLflow server or database; unset: an sqlite file in `home`",
    )
    cache_folder: Folder | None = Field(
        None, validation_alias="LATENTWORKS_CACHE", description="checked copies of components; unset: in `home`"
    )
    artifacts_folder: Folder | None = Field(
        None,
        validation_alias="LATENTWORKS_ARTIFACTS",
        description="published files where no MLflow server keeps them; unset: in `home`",
    )
    timeout_s: int = Field(
        15,
        ge=1,
        le=3600,
        validation_alias="LATENTWORKS_REGISTRY_TIMEOUT_S",
        description="the longest wait for one answer of an MLflow server; an upload is answered when it is stored",
    )
    retries: int = Field(
        1,
        ge=0,
        le=10,
        validation_alias="LATENTWORKS_REGISTRY_RETRIES",
        description="how often a request is tried again",
    )

    @classmethod
    def from_environment(cls) -> Self:
        """The settings that the environment gives.

        Raises:
            RegistryError: a variable's value cannot be used.
        """
        try:
            return cls()
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            raise RegistryError(f"{where}={first['input']!r}: {first['msg']}") from None

    @property
    def cache(self) -> Path:
        """The folder of checked copies."""
        return self.home / "components" if self.cache_folder is None else self.cache_folder

    @property
    def artifacts(self) -> Path:
        """The folder of published files, where no MLflow server keeps them."""
        return self.home / "artifacts" if self.artifacts_folder is None else self.artifacts_folder

    @property
    def locks(self) -> Path:
        """The folder of lock files."""
        return self.home / "locks"

    @property
    def served(self) -> bool:
        """Whether an MLflow server keeps the registry and the artifacts, rather than a database that we open."""
        return self.tracking_uri is not None and self.tracking_uri.startswith(("http://", "https://", "databricks"))
