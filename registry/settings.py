"""Where the registry, its artifacts and the cache are: the one place that maps the environment to settings."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from registry.errors import RegistryError


def _absolute(path: Path) -> Path:
    return path.expanduser().absolute()


# Ray starts replicas in folders of its own: a relative path would mean another place in each of them.
Folder = Annotated[Path, AfterValidator(_absolute)]

VARIABLES = {
    "LATENTWORKS_HOME": "home",
    "LATENTWORKS_CACHE": "cache_folder",
    "LATENTWORKS_ARTIFACTS": "artifacts_folder",
    "LATENTWORKS_REGISTRY_TIMEOUT_S": "timeout_s",
    "LATENTWORKS_REGISTRY_RETRIES": "retries",
    "MLFLOW_TRACKING_URI": "tracking_uri",
}


class RegistrySettings(BaseModel):
    """Read from the environment once, where a process starts, then handed on."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    home: Folder = Field(Path("~/.latentworks"), description="our own folder")
    tracking_uri: str | None = Field(
        None, min_length=1, description="an MLflow server or database; unset: an sqlite file in `home`"
    )
    cache_folder: Folder | None = Field(None, description="checked copies of components; unset: in `home`")
    artifacts_folder: Folder | None = Field(
        None, description="published files where no MLflow server keeps them; unset: in `home`"
    )
    timeout_s: int = Field(
        15,
        ge=1,
        le=3600,
        description="the longest wait for an answer of a server; an upload is answered once it is stored",
    )
    retries: int = Field(1, ge=0, le=10, description="how often a request to a server is tried again")

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """The settings that the variables of `VARIABLES` give; an empty one counts as unset.

        Raises:
            RegistryError: a variable's value cannot be used.
        """
        given = {field: value for name, field in VARIABLES.items() if (value := environment.get(name, ""))}
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            names = {field: name for name, field in VARIABLES.items()}
            raise RegistryError(f"{names[str(first['loc'][0])]}={first['input']!r}: {first['msg']}") from None

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
