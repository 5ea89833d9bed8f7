"""What `python -m benchmarks cluster` deploys, and how it tells what came of it; the command itself takes minutes."""

import yaml
from ray.serve.schema import ServeDeploySchema

from benchmarks.cluster.application import local_config
from benchmarks.cluster.load import Load
from tests.k8s.rendering import one, rendered


def test_it_is_the_overlays_config_but_for_what_this_machine_has_not() -> None:
    ours = local_config(8123)
    ServeDeploySchema.model_validate(ours)
    theirs = yaml.safe_load(one(rendered("gpu"), "RayService")["spec"]["serveConfigV2"])
    assert (ours["proxy_location"], ours["http_options"]) == ("HeadOnly", {"host": "127.0.0.1", "port": 8123})
    changed = {"autoscaling_config", "num_replicas", "max_replicas_per_node", "ray_actor_options"}
    pairs = zip(ours["applications"][0]["deployments"], theirs["applications"][0]["deployments"], strict=True)
    for mine, its in pairs:
        for name in mine.keys() - changed:
            assert mine[name] == its[name]
        assert mine["ray_actor_options"]["label_selector"] == its["ray_actor_options"]["label_selector"]
        assert mine["ray_actor_options"]["num_gpus"] == 0
        assert mine["num_replicas"] == 1
        variables = mine["ray_actor_options"].get("runtime_env", {}).get("env_vars", {})
        assert variables.keys() == its["ray_actor_options"].get("runtime_env", {}).get("env_vars", {}).keys()
        assert {value for name, value in variables.items() if name.endswith("__PROVIDER")} <= {"cpu"}


def test_the_longest_time_without_a_picture_is_found() -> None:
    assert Load(answered=[1.0, 2.0, 7.5, 8.0]).longest_gap_s == 5.5
    assert Load().longest_gap_s == 0
