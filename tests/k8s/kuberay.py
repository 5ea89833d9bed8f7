"""The fields of Ray's and Prometheus' own kinds that we use, and the rules of KubeRay's operator for them.

KubeRay's custom resource definition is a megabyte; this is what of it our manifests may name, from the types of KubeRay
1.7, and what its `ValidateRayServiceSpec` and the types' own comments require besides.
"""

import re
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

# whose types and rules these are
VERSION = "1.7"

_DNS_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
# KubeRay's own: 63, less what it appends to a cluster's name, less what a RayService appends
_LONGEST_NAME = 41


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, alias_generator=to_camel)


class _Metadata(_Part):
    name: str
    namespace: str | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class _TemplateMetadata(_Part):
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class _Template(_Part):
    metadata: _TemplateMetadata = _TemplateMetadata()
    # a pod's, which Kubernetes' own schema is for
    spec: dict[str, Any]


class _Head(_Part):
    ray_start_params: dict[str, str] = {}
    labels: dict[str, str] = {}
    resources: dict[str, str] = {}
    template: _Template


class _Group(_Head):
    group_name: str
    replicas: int = Field(ge=0)
    min_replicas: int = Field(ge=0)
    max_replicas: int = Field(ge=1)
    idle_timeout_seconds: int | None = None


class _AutoscalerOptions(_Part):
    version: Literal["v1", "v2"]
    upscaling_mode: Literal["Default", "Aggressive", "Conservative"] = "Default"
    idle_timeout_seconds: int | None = Field(None, ge=0)
    resources: dict[str, Any]
    security_context: dict[str, Any]


class _SecretKey(_Part):
    name: str
    key: str


class _ValueFrom(_Part):
    secret_key_ref: _SecretKey


class _Credential(_Part):
    value_from: _ValueFrom


class _FaultTolerance(_Part):
    redis_address: str
    redis_password: _Credential


class _Auth(_Part):
    mode: Literal["disabled", "token"]


class _Cluster(_Part):
    ray_version: str
    enable_in_tree_autoscaling: bool = False
    autoscaler_options: _AutoscalerOptions | None = None
    gcs_fault_tolerance_options: _FaultTolerance | None = None
    auth_options: _Auth | None = None
    head_group_spec: _Head
    worker_group_specs: list[_Group] = Field(min_length=1)


class _UpgradeStrategy(_Part):
    type: Literal["NewCluster", "NewClusterWithIncrementalUpgrade", "None"]


class _RayServiceSpec(_Part):
    serve_config_v2: str
    upgrade_strategy: _UpgradeStrategy
    ray_cluster_config: _Cluster


class _RayService(_Part):
    api_version: Literal["ray.io/v1"]
    kind: Literal["RayService"]
    metadata: _Metadata
    spec: _RayServiceSpec


class _Selector(_Part):
    match_labels: dict[str, str]


class _Endpoint(_Part):
    port: str
    interval: str = Field(pattern=r"^[0-9]+s$")


class _ServiceMonitorSpec(_Part):
    selector: _Selector
    endpoints: list[_Endpoint] = Field(min_length=1)


class _PodMonitorSpec(_Part):
    selector: _Selector
    pod_metrics_endpoints: list[_Endpoint] = Field(min_length=1)


class _ServiceMonitor(_Part):
    api_version: Literal["monitoring.coreos.com/v1"]
    kind: Literal["ServiceMonitor"]
    metadata: _Metadata
    spec: _ServiceMonitorSpec


class _PodMonitor(_Part):
    api_version: Literal["monitoring.coreos.com/v1"]
    kind: Literal["PodMonitor"]
    metadata: _Metadata
    spec: _PodMonitorSpec


_MODELS: dict[str, type[BaseModel]] = {
    "RayService": _RayService,
    "ServiceMonitor": _ServiceMonitor,
    "PodMonitor": _PodMonitor,
}


def knows(kind: str) -> bool:
    """Whether a kind is one of these."""
    return kind in _MODELS


def shape_faults(manifest: dict[str, Any]) -> list[str]:
    """What an object of one of these kinds has that its type has not, and the other way round."""
    try:
        _MODELS[manifest["kind"]].model_validate(manifest)
    except ValidationError as error:
        return [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors(include_url=False)]
    return []


def operator_faults(service: dict[str, Any]) -> list[str]:
    """What KubeRay's operator would refuse of a RayService whose shape is right."""
    name = service["metadata"]["name"]
    cluster = service["spec"]["rayClusterConfig"]
    head, workers = cluster["headGroupSpec"], cluster["workerGroupSpecs"]
    faults = []
    if len(name) > _LONGEST_NAME or _DNS_1035.fullmatch(name) is None:
        faults.append(f"metadata.name={name}: no name of a RayService")
    for group in (head, *workers):
        faults += _group_faults(group, cluster)
    names = [group["groupName"] for group in workers]
    if len(set(names)) < len(names):
        faults.append("workerGroupSpecs: two groups of one name")
    if cluster.get("authOptions", {}).get("mode") == "token":
        major, minor, *_ = map(int, cluster["rayVersion"].split("."))
        if (major, minor) < (2, 52):
            faults.append("authOptions.mode: Ray 2.52 is needed")
    if "gcsFaultToleranceOptions" in cluster:
        variables = {each["name"] for each in head["template"]["spec"]["containers"][0].get("env", [])}
        for forbidden in sorted(variables & {"REDIS_PASSWORD", "RAY_REDIS_ADDRESS", "REDIS_USERNAME"}):
            faults.append(f"headGroupSpec: {forbidden} beside gcsFaultToleranceOptions")
    return faults


def _group_faults(group: dict[str, Any], cluster: dict[str, Any]) -> list[str]:
    name = group.get("groupName", "head")
    params = group.get("rayStartParams", {})
    faults = []
    if "labels" in params:
        faults.append(f"{name}: rayStartParams.labels; the group's own labels are meant")
    if group.get("resources") and params.keys() & {"num-cpus", "num-gpus", "memory", "resources"}:
        faults.append(f"{name}: resources both of the group and in rayStartParams")
    if cluster.get("enableInTreeAutoscaling") and group["template"]["spec"].get("restartPolicy", "Never") != "Never":
        faults.append(f"{name}: restartPolicy must be Never or unset beside the autoscaler")
    if "groupName" in group and not group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]:
        faults.append(f"{name}: replicas must be between minReplicas and maxReplicas")
    return faults
