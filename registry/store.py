"""The edge to MLflow: how its client is opened, and how its errors become ours."""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from registry.errors import RegistryAwayError, RegistryError
from registry.local.lock import locked
from registry.settings import RegistrySettings

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

PAGE = 1000
EXPERIMENT = "latentworks.components"
_SAID = {"INVALID_PARAMETER_VALUE", "RESOURCE_ALREADY_EXISTS", "RESOURCE_DOES_NOT_EXIST", "PERMISSION_DENIED"}


def open_client(settings: RegistrySettings) -> "MlflowClient":
    """A client of the settings' registry; the embedded one is created when it is not there yet (some seconds).

    What MLflow reads from the environment is set there, unless the user set it: no telemetry, no progress bars, and
    how long it waits for a server. So the first client of a process decides these.

    Raises:
        RegistryError: the server does not answer, or the database cannot be opened.
    """
    for name, value in _mlflow_environment(settings).items():
        os.environ.setdefault(name, value)
    # A server looks after itself, and nobody should queue behind one that does not answer.
    alone = nullcontext() if settings.served else locked(settings.locks / "store.lock")
    with translated(settings), alone:
        from mlflow import MlflowClient  # takes two seconds; whoever only reads the cache does without

        if "MLFLOW_LOGGING_LEVEL" not in os.environ:
            # Creating the embedded database is no news to whoever starts the server.
            logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
        uri = store_uri(settings)
        client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        client.search_registered_models(max_results=1)
        return client


def store_uri(settings: RegistrySettings) -> str:
    """The user's own, or that of the sqlite file in our folder."""
    if settings.tracking_uri is not None:
        return settings.tracking_uri
    return f"sqlite:///{quote(str(settings.home / 'mlflow.db'))}"


def experiment_id(client: "MlflowClient", settings: RegistrySettings, name: str = EXPERIMENT) -> str:
    """The id of an experiment, by default of that which our components' runs belong to; made when it is not there."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        # Left to itself, MLflow would put files into the working directory.
        location = None if settings.served else settings.artifacts.as_uri()
        try:
            return str(client.create_experiment(name, artifact_location=location))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            found = client.get_experiment_by_name(name)
    return str(found.experiment_id)


def register(client: "MlflowClient", name: str) -> None:
    """Make a registered model where there is none of that name."""
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def tag(client: "MlflowClient", name: str, key: str, value: str) -> None:
    """Write a tag of a registered model, which is made where it is not there yet."""
    from mlflow.exceptions import MlflowException

    try:
        client.set_registered_model_tag(name, key, value)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        register(client, name)
        client.set_registered_model_tag(name, key, value)


def every(search: Callable[..., Any], condition: str | None = None) -> Iterator[Any]:
    """All that an MLflow search finds, page by page."""
    token = None
    while True:
        page = search(condition, max_results=PAGE, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def aliased(client: "MlflowClient", name: str, alias: str) -> "ModelVersion | None":
    """The version that an alias points at, in one question; None where the name or the alias is not there."""
    from mlflow.exceptions import MlflowException

    try:
        return client.get_model_version_by_alias(name, alias)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


@contextmanager
def missing_means(ours: RegistryError) -> Iterator[None]:
    """Raise `ours` where MLflow does not find what the block asks for."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            raise ours from None
        raise


@contextmanager
def translated(settings: RegistrySettings) -> Iterator[None]:
    """Turn what MLflow and the libraries below it raise into a `RegistryError` of one sentence, without credentials.

    It is a `RegistryAwayError` unless the registry has understood the question and refuses.
    """
    try:
        yield
    except RegistryError:
        raise
    except Exception as error:
        sentence = _sentence(error, settings)
        if sentence is None:
            raise
        raise (RegistryError if _refused(error) else RegistryAwayError)(sentence) from None


def _mlflow_environment(settings: RegistrySettings) -> dict[str, str]:
    return {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": str(settings.timeout_s),
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": str(settings.retries),
    }


def _refused(error: Exception) -> bool:
    from mlflow.exceptions import MlflowException

    # a package that is missing does not come back by itself
    return isinstance(error, ImportError) or (isinstance(error, MlflowException) and error.error_code in _SAID)


def _sentence(error: Exception, settings: RegistrySettings) -> str | None:
    """What to say of an error, or None for one that is a fault of ours."""
    import requests
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    where = _where(settings)
    below = _below(error)
    if transport := [cause for cause in below if isinstance(cause, requests.exceptions.RequestException)]:
        silent = any("timed out" in str(cause) for cause in transport)
        waited = os.environ.get("MLFLOW_HTTP_REQUEST_TIMEOUT", settings.timeout_s)
        return f"{where} did not answer within {waited} s" if silent else f"{where} cannot be reached"
    if isinstance(error, MlflowException):
        said = str(error.message).splitlines()[0][:200] if error.error_code in _SAID and error.message else ""
        return f"{where} refused: {said}" if said else f"{where} failed with {error.error_code}"
    if isinstance(error, SQLAlchemyError):
        return f"{where} cannot be opened: {type(error).__name__}"
    if isinstance(error, ImportError):
        return f"{where} needs the package {error.name}, which is not installed"
    if isinstance(error, OSError):
        return f"{where} cannot be used: {error.strerror or type(error).__name__}"
    return None


def _below(error: BaseException) -> list[BaseException]:
    """The error and all that led to it, as MLflow wraps the transport's errors."""
    chain: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in chain:
        chain.append(current)
        current = current.__cause__ or current.__context__
    return chain


def _where(settings: RegistrySettings) -> str:
    if settings.tracking_uri is None:
        return f"the registry in {settings.home}"
    parts = urlsplit(settings.tracking_uri)
    return f"the registry at {parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
