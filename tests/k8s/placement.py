"""Whether what Serve's config asks for is there: the pools, and in each the cores and GPUs."""

import math
import operator
from collections import defaultdict
from typing import Any

from ray.serve.config import AutoscalingConfig
from ray.serve.schema import (
    DeploymentSchema,
    RayActorOptionsSchema,
    ServeApplicationSchema,
    ServeDeploySchema,
)

GPU = "nvidia.com/gpu"
_ANY = ""


def config_faults(config: dict[str, Any]) -> list[str]:
    """Keys that Serve does not know: it takes them silently."""
    ServeDeploySchema.model_validate(config)
    faults = [f"{key}: unknown to Serve" for key in config.keys() - ServeDeploySchema.model_fields.keys()]
    for application in config["applications"]:
        faults += [
            f"{key}: unknown to Serve" for key in application.keys() - ServeApplicationSchema.model_fields.keys()
        ]
        if "args" in application:
            faults.append("args: a change there starts every deployment anew")
        for deployment in application["deployments"]:
            name = deployment["name"]
            for part, known in (
                (deployment, DeploymentSchema),
                (deployment.get("ray_actor_options", {}), RayActorOptionsSchema),
                (deployment.get("autoscaling_config", {}), AutoscalingConfig),
            ):
                faults += [f"{name}.{key}: unknown to Serve" for key in part.keys() - known.model_fields.keys()]
    return faults


def room_faults(config: dict[str, Any], cluster: dict[str, Any]) -> list[str]:
    """Pools that are not there, and those without the cores or GPUs for the fewest and the most replicas."""
    groups = cluster["workerGroupSpecs"]
    pools = {group.get("labels", {}).get("pool", _ANY): group for group in groups}
    wanted: dict[str, list[dict[str, Any]]] = defaultdict(list)
    faults = []
    for deployment in config["applications"][0]["deployments"]:
        pool = deployment["ray_actor_options"].get("label_selector", {}).get("pool", _ANY)
        if pool in pools:
            wanted[pool].append(deployment)
        else:
            faults.append(f"{deployment['name']}: no workers have the label pool={pool}")
    for pool, deployments in wanted.items():
        faults += _pool_faults(pools[pool], deployments)
    for pool in pools.keys() - wanted.keys():
        faults.append(f"{pools[pool]['groupName']}: nothing runs there")
    return faults


def _pool_faults(group: dict[str, Any], deployments: list[dict[str, Any]]) -> list[str]:
    limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
    has = {"num_cpus": float(limits["cpu"]), "num_gpus": float(limits.get(GPU, 0))}
    faults = []
    for unit, each in has.items():
        costs = [deployment["ray_actor_options"][unit] for deployment in deployments]
        fewest, most = zip(*map(_replicas, deployments), strict=True)
        # one deployment is exchanged at a time, where its options are changed
        surges = [
            math.ceil(count * deployment.get("max_surge_percent", 0) / 100) * cost
            for count, cost, deployment in zip(most, costs, deployments, strict=True)
        ]
        needed = {
            "minReplicas": sum(map(operator.mul, fewest, costs)),
            "maxReplicas": sum(map(operator.mul, most, costs)) + max(surges),
        }
        for bound, amount in needed.items():
            if amount > group[bound] * each + 1e-9:
                faults.append(f"{group['groupName']}: {amount:g} {unit} wanted, {bound} have {group[bound] * each:g}")
    return faults


def _replicas(deployment: dict[str, Any]) -> tuple[int, int]:
    scaled = deployment.get("autoscaling_config")
    if scaled is None:
        return deployment["num_replicas"], deployment["num_replicas"]
    return scaled["min_replicas"], scaled["max_replicas"]
