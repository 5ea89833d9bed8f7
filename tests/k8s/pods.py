"""What every pod of ours keeps to: Kubernetes' restricted pod security, bounded resources, pinned images."""

from collections.abc import Iterator
from typing import Any

from tests.k8s.rendering import Manifest

# https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted
_VOLUMES = {"configMap", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}


def templates(manifest: Manifest) -> Iterator[tuple[str, dict[str, Any]]]:
    """The name and pod template of everything that makes pods."""
    if manifest["kind"] == "RayService":
        cluster = manifest["spec"]["rayClusterConfig"]
        yield "head", cluster["headGroupSpec"]["template"]
        for group in cluster["workerGroupSpecs"]:
            yield group["groupName"], group["template"]
    elif manifest["kind"] in ("Deployment", "StatefulSet", "Job"):
        yield manifest["metadata"]["name"], manifest["spec"]["template"]


def pod_faults(name: str, template: dict[str, Any], claimed: frozenset[str] = frozenset()) -> list[str]:
    """What a pod template has against it; `claimed` are volumes that its set brings along."""
    spec = template["spec"]
    faults = [f"{name}: {fault}" for fault in _pod_security_faults(spec)]
    volumes = {volume["name"] for volume in spec.get("volumes", [])} | claimed
    for volume in spec.get("volumes", []):
        if not (volume.keys() - {"name"}) <= _VOLUMES:
            faults.append(f"{name}: volume {volume['name']} is of a kind that is not let in")
    mounted = set()
    for container in (*spec.get("initContainers", []), *spec["containers"]):
        where = f"{name}/{container['name']}"
        faults += [f"{where}: {fault}" for fault in _container_faults(container)]
        mounted |= {mount["name"] for mount in container.get("volumeMounts", [])}
    if mounted != volumes:
        faults.append(f"{name}: mounts {sorted(mounted)} of the volumes {sorted(volumes)}")
    return faults


def _pod_security_faults(spec: dict[str, Any]) -> Iterator[str]:
    security = spec.get("securityContext", {})
    if security.get("runAsNonRoot") is not True or not security.get("runAsUser"):
        yield "may run as root"
    if security.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        yield "has no seccomp profile"
    if spec.get("hostNetwork") or spec.get("hostPID") or spec.get("hostIPC"):
        yield "shares what is the host's"
    # Kubernetes would tell of our Services as LATENTWORKS_..._PORT, which are no settings of ours
    if spec.get("enableServiceLinks") is not False:
        yield "enableServiceLinks must be false"
    if "automountServiceAccountToken" not in spec:
        yield "does not say whether it needs a token of Kubernetes"


def _container_faults(container: dict[str, Any]) -> Iterator[str]:
    security = container.get("securityContext", {})
    if security.get("allowPrivilegeEscalation") is not False:
        yield "may gain privileges"
    if security.get("readOnlyRootFilesystem") is not True:
        yield "may write to its image"
    if security.get("capabilities", {}).get("drop") != ["ALL"]:
        yield "keeps capabilities"
    resources = container.get("resources", {})
    for part in ("limits", "requests"):
        if not {"cpu", "memory"} <= resources.get(part, {}).keys():
            yield f"resources.{part} must name cpu and memory"
    _image, _, tag = container["image"].partition(":")
    if tag in ("", "latest"):
        yield f"image {container['image']}: names no version"
