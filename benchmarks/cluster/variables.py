"""The environment of each pool's pods, as the overlay `gpu` has it, with what stands on this machine in its place."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

_K8S = Path(__file__).resolve().parents[2] / "k8s"
_GPU = _K8S / "overlays" / "gpu"
HEAD = "head"
# of Ray's own and of the pods' users: set for every node, whatever its pool
_RAYS = {"RAY_USAGE_STATS_ENABLED", "RAY_worker_niceness", "HOME"}
# what is mounted into each pod; on one machine all nodes share it
_MOUNTS = {
    "/var/lib/latentworks": "home",
    "/var/cache/latentworks": "cache",
    "/etc/latentworks": "secrets",
}
_REGISTRY = "http://latentworks-mlflow:5000"


def pool_variables(pool: str, secrets: Mapping[str, Mapping[str, str]], registry: str, folder: Path) -> dict[str, str]:
    """The variables of a pool's pods; `HEAD` is the head's.

    `secrets` are the Secrets that the overlay reads, by name, and their values by key; `registry` is MLflow's address
    and `folder` where the volumes are.
    """
    container = _container(pool)
    found = {name: _here(value, registry, folder) for name, value in _settings()}
    for source in container.get("envFrom", ()):
        if "secretRef" in source:
            found |= secrets[source["secretRef"]["name"]]
    for one in container["env"]:
        if one["name"] not in _RAYS:
            reference = one["valueFrom"]["secretKeyRef"]
            found[one["name"]] = secrets[reference["name"]][reference["key"]]
    return found


def _container(pool: str) -> dict[str, Any]:
    if pool == HEAD:
        patch = yaml.safe_load((_GPU / "head.yaml").read_text(encoding="utf-8"))
        return {"env": [one["value"] for one in patch if one["path"].endswith("/env/-")]}
    cluster = yaml.safe_load((_GPU / "cluster.yaml").read_text(encoding="utf-8"))
    groups = cluster["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    group = next(one for one in groups if one["groupName"] == pool)
    container: dict[str, Any] = group["template"]["spec"]["containers"][0]
    return container


def _settings() -> list[tuple[str, str]]:
    files = (_K8S / "base" / "settings.env", _GPU / "settings.env")
    lines = [line for file in files for line in file.read_text(encoding="utf-8").splitlines() if line]
    return [(name, value) for name, _, value in (line.partition("=") for line in lines)]


def _here(value: str, registry: str, folder: Path) -> str:
    value = value.replace(_REGISTRY, registry)
    for mount, name in _MOUNTS.items():
        value = value.replace(mount, str(folder / name))
    return value
