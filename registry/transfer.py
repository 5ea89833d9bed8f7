"""Component folders to MLflow and back; back come only the files that the pinned manifest lists, to where we say."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from components.errors import ComponentError
from components.folder import ComponentFolder, read_manifest, sha256
from components.manifest import MANIFEST_NAME, Manifest
from components.reference import ComponentRef
from registry.errors import RegistryError
from registry.pages import write_run
from registry.settings import RegistrySettings
from registry.store import every, experiment_id, register
from registry.version import readable

if TYPE_CHECKING:
    from mlflow import MlflowClient

ARTIFACT_FOLDER = "component"
SPARE_BYTES = 64 << 20  # what a download leaves free


def published(client: "MlflowClient", name: str, digest: str) -> ComponentRef | None:
    """The oldest version of a name with that digest, or None."""
    found = every(client.search_model_versions, f"name = '{name}' and tag.sha256 = '{digest}'")
    return min((version.ref for version in readable(found)), key=lambda ref: ref.version, default=None)


def upload(
    client: "MlflowClient", settings: RegistrySettings, path: Path, name: str, tags: dict[str, str]
) -> ComponentRef:
    """Add a component folder as a new version, described for a reader.

    Raises:
        RegistryError: the version is gone as soon as it is there.
    """
    folder = ComponentFolder.open(path)
    run = client.create_run(experiment_id(client, settings), run_name=name).info.run_id
    client.log_artifacts(run, str(path), ARTIFACT_FOLDER)
    text = write_run(client, run, folder)
    client.set_terminated(run)
    register(client, name)
    made = client.create_model_version(
        name, source=_source_of(run), run_id=run, tags=tags, description=text, await_creation_for=0
    )
    first = published(client, name, tags["sha256"])
    if first is None:
        raise RegistryError(f"{name}/{made.version} was removed while it was being published")
    if first.version < int(made.version):  # another machine was faster; no lock spans the two
        client.delete_model_version(name, str(made.version))
    return first


def download(client: "MlflowClient", ref: ComponentRef, into: Path) -> None:
    """Copy a component's files into an empty folder.

    The manifest comes first, and its digest must be the pin's, before anything that it says is believed. Then every
    file is asked for by the manifest's name for it; what else the registry holds, or how it names it, never matters.

    Raises:
        RegistryError: the version has no such files, the manifest is not the pinned one, or the disk is too small.
    """
    run = _run_of(client, ref)
    _one(client, run, MANIFEST_NAME, into)
    if not (into / MANIFEST_NAME).is_file() or sha256(into / MANIFEST_NAME) != ref.sha256:
        raise RegistryError(f"{ref}: the registry's {MANIFEST_NAME} is not the one with the sha256 {ref.sha256}")
    try:
        manifest = read_manifest(into)
    except ComponentError as error:
        raise RegistryError(f"{ref}: {error}") from None
    _check_space(ref, manifest, into)
    for name in manifest.files:
        _one(client, run, name, into)


def _one(client: "MlflowClient", run: str, name: str, into: Path) -> None:
    # MLflow writes `a/b/c` as `c` into the folder it is given.
    folder = (into / name).parent
    folder.mkdir(parents=True, exist_ok=True)
    client.download_artifacts(run, f"{ARTIFACT_FOLDER}/{name}", str(folder))


def _run_of(client: "MlflowClient", ref: ComponentRef) -> str:
    version = client.get_model_version(ref.name, str(ref.version))
    run = str(version.run_id)
    if version.source != _source_of(run):
        raise RegistryError(f"{ref}: its files are not where Latentworks publishes them")
    return run


def _source_of(run: str) -> str:
    """Where a run of ours keeps its component, as MLflow writes it."""
    return f"runs:/{run}/{ARTIFACT_FOLDER}"


def _check_space(ref: ComponentRef, manifest: Manifest, into: Path) -> None:
    needed = sum(record.size for record in manifest.files.values())
    free = shutil.disk_usage(into).free - SPARE_BYTES
    if needed > free:
        raise RegistryError(f"{ref}: needs {needed} bytes in the cache, {max(free, 0)} are free")
