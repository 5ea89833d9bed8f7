"""The manifest against the code: the same deployments, and what KubeRay requires."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.serve.schema import DeploymentSchema, ServeApplicationSchema, ServeDeploySchema

from services.settings import GraphArgs

ROOT = Path(__file__).parents[2]
SERVE = Path(sys.executable).with_name("serve")


@pytest.fixture(scope="module")
def manifest() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "k8s" / "rayservice.yaml").read_text(encoding="utf-8"))
    return loaded


@pytest.fixture(scope="module")
def config(manifest: dict[str, Any]) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(manifest["spec"]["serveConfigV2"])
    return loaded


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What `serve build ray_app:graph` says of the code, without any bundle on disk."""
    out = tmp_path_factory.mktemp("build") / "built.yaml"
    command: list[str | Path] = [SERVE, "build", "ray_app:graph", "--output-path", out]
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(out.parent), "LATENTWORKS_BUNDLE": "nowhere"}
    subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, timeout=120)
    assert not (out.parent / ".latentworks").exists(), "serve build opened a registry"
    loaded: dict[str, Any] = yaml.safe_load(out.read_text(encoding="utf-8"))
    return loaded


def test_is_a_rayservice_of_the_installed_ray(manifest: dict[str, Any]) -> None:
    import ray

    assert (manifest["apiVersion"], manifest["kind"]) == ("ray.io/v1", "RayService")
    assert manifest.keys() == {"apiVersion", "kind", "metadata", "spec"}
    assert manifest["spec"].keys() == {"serveConfigV2", "rayClusterConfig"}
    assert isinstance(manifest["spec"]["serveConfigV2"], str)
    assert manifest["spec"]["rayClusterConfig"]["rayVersion"] == ray.__version__


def test_serve_config_is_valid_and_has_no_unknown_key(config: dict[str, Any]) -> None:
    ServeDeploySchema.model_validate(config)
    assert config.keys() <= ServeDeploySchema.model_fields.keys()
    (application,) = config["applications"]
    assert application.keys() <= ServeApplicationSchema.model_fields.keys()
    for deployment in application["deployments"]:
        assert deployment.keys() <= DeploymentSchema.model_fields.keys(), deployment["name"]


def test_deployments_are_those_of_the_code(config: dict[str, Any], built: dict[str, Any]) -> None:
    (ours,), (code,) = config["applications"], built["applications"]
    assert (ours["import_path"], ours["route_prefix"]) == (code["import_path"], code["route_prefix"])
    # replicas, concurrency, resources and time to stop, for every deployment and in the same order
    assert ours["deployments"] == code["deployments"]


def test_everything_waits_in_the_policy(config: dict[str, Any]) -> None:
    deployments = {one["name"]: one for one in config["applications"][0]["deployments"]}
    admitted = GraphArgs().ingress.max_images * deployments["ingress"]["num_replicas"]
    for name in ("graph", "denoiser"):
        assert deployments[name]["max_ongoing_requests"] > admitted


def test_default_deployments_fit_on_two_cores(built: dict[str, Any]) -> None:
    (application,) = built["applications"]
    needed = sum(one["num_replicas"] * one["ray_actor_options"]["num_cpus"] for one in application["deployments"])
    assert needed <= 1.5


def test_cluster_has_what_kuberay_requires(manifest: dict[str, Any]) -> None:
    cluster = manifest["spec"]["rayClusterConfig"]
    head = cluster["headGroupSpec"]
    assert head["rayStartParams"]["num-cpus"] == "0"
    assert "name" not in head.get("headService", {}).get("metadata", {})
    for group in cluster["workerGroupSpecs"]:
        # without autoscaling both bounds are required
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
        assert isinstance(group["rayStartParams"], dict)
    for group in (head, *cluster["workerGroupSpecs"]):
        (container,) = group["template"]["spec"]["containers"]
        # readiness asks the port of this name
        assert {"name": "serve", "containerPort": 8000} in container["ports"]
        assert container["resources"]["limits"].keys() == {"cpu", "memory"}
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in group["template"]["spec"]["volumes"]}


def test_pods_outlast_their_replicas(manifest: dict[str, Any], config: dict[str, Any]) -> None:
    cluster = manifest["spec"]["rayClusterConfig"]
    longest = max(one["graceful_shutdown_timeout_s"] for one in config["applications"][0]["deployments"])
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        assert group["template"]["spec"]["terminationGracePeriodSeconds"] >= longest + 30


def test_kubernetes_sets_no_variable_that_looks_like_ours(manifest: dict[str, Any]) -> None:
    """KubeRay's Services are named after ours, and Kubernetes would tell of them as LATENTWORKS_..._PORT."""
    cluster = manifest["spec"]["rayClusterConfig"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        assert group["template"]["spec"]["enableServiceLinks"] is False


def test_workers_hold_every_replica(manifest: dict[str, Any], config: dict[str, Any]) -> None:
    groups = manifest["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    cores = sum(
        group["replicas"] * float(group["template"]["spec"]["containers"][0]["resources"]["limits"]["cpu"])
        for group in groups
    )
    deployments = config["applications"][0]["deployments"]
    assert sum(one["num_replicas"] * one["ray_actor_options"]["num_cpus"] for one in deployments) <= cores
