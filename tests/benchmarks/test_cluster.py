"""What `python -m benchmarks cluster` deploys, and how it tells what came of it; the command itself takes minutes."""

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import yaml
from ray.serve.schema import ServeDeploySchema

from benchmarks import postgresql
from benchmarks.cluster import stores
from benchmarks.cluster.application import local_config
from benchmarks.cluster.door import Door
from benchmarks.cluster.load import Load
from benchmarks.cluster.variables import HEAD, pool_variables
from benchmarks.cluster.wishes import Wish, wishes_at
from benchmarks.errors import BenchmarkError
from tests.k8s.rendering import Manifest, one, rendered

# said to users whose bucket is not of AWS; Ray's own; the pods' user's
BUCKET_KEY = {"AWS_ACCESS_KEY_ID": "an id", "AWS_SECRET_ACCESS_KEY": "a key"}
BESIDE = {"RAY_USAGE_STATS_ENABLED", "RAY_worker_niceness", "HOME"}


def test_it_is_the_overlays_config_but_for_what_this_machine_has_not() -> None:
    ours = local_config(8123)
    # of replicas' own figures it is the only setting that counts in Ray 2.60
    with pytest.warns(DeprecationWarning, match="metrics_interval_s"):
        ServeDeploySchema.model_validate(ours)
    theirs = yaml.safe_load(one(rendered("gpu"), "RayService")["spec"]["serveConfigV2"])
    assert (ours["proxy_location"], ours["http_options"]) == ("EveryNode", {"host": "127.0.0.1", "port": 8123})
    assert theirs["proxy_location"] == "EveryNode"
    changed = {"autoscaling_config", "num_replicas", "max_replicas_per_node", "ray_actor_options"}
    pairs = zip(ours["applications"][0]["deployments"], theirs["applications"][0]["deployments"], strict=True)
    for mine, its in pairs:
        for name in mine.keys() - changed:
            assert mine[name] == its[name]
        assert mine["ray_actor_options"]["label_selector"] == its["ray_actor_options"]["label_selector"]
        assert mine["ray_actor_options"]["num_gpus"] == 0
        variables = mine["ray_actor_options"].get("runtime_env", {}).get("env_vars", {})
        assert variables.keys() == its["ray_actor_options"].get("runtime_env", {}).get("env_vars", {}).keys()
        assert {value for name, value in variables.items() if name.endswith("__PROVIDER")} <= {"cpu"}
        assert mine.get("num_replicas") == (None if "autoscaling_config" in its else 1)
        bounds, its_bounds = mine.get("autoscaling_config", {}), its.get("autoscaling_config", {})
        assert bounds.get("target_ongoing_requests") == its_bounds.get("target_ongoing_requests")
        assert bounds.get("policy", {}).get("policy_function") == its_bounds.get("policy", {}).get("policy_function")
        assert bounds.get("policy", {}).keys() == its_bounds.get("policy", {}).keys()
        assert (bounds.get("min_replicas"), bounds.get("max_replicas")) == ((1, 1) if bounds else (None, None))


def sources_of(sources: list[dict[str, Any]], manifests: list[Manifest]) -> tuple[dict[str, str], list[str]]:
    """What a pod has from a ConfigMap, and the Secrets that it has whole."""
    [settings] = [source["configMapRef"]["name"] for source in sources if "configMapRef" in source]
    return one(manifests, "ConfigMap", settings)["data"], [
        source["secretRef"]["name"] for source in sources if "secretRef" in source
    ]


def test_each_pools_nodes_have_the_variables_of_its_pods(tmp_path: Path) -> None:
    manifests = rendered("gpu")
    cluster = one(manifests, "RayService")["spec"]["rayClusterConfig"]
    pods = {group["groupName"]: group["template"] for group in cluster["workerGroupSpecs"]}
    pods[HEAD] = cluster["headGroupSpec"]["template"]
    for pool, pod in pods.items():
        [container] = pod["spec"]["containers"]
        settings, whole = sources_of(container["envFrom"], manifests)
        theirs = {entry["name"]: entry for entry in container["env"] if entry["name"] not in BESIDE}
        own = {entry["valueFrom"]["secretKeyRef"]["key"]: f"{name}'s" for name, entry in theirs.items()}
        secrets = {"latentworks-secrets": own, "latentworks-bucket": BUCKET_KEY}
        ours = pool_variables(pool, secrets, "http://127.0.0.1:1", tmp_path)
        assert ours.keys() == theirs.keys() | settings.keys() | {name for one in whole for name in secrets[one]}
        assert all(ours[name] == f"{name}'s" for name in theirs)
        mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
        for name, value in settings.items():
            [there] = [path for path in mounted if value.startswith(f"{path}/") or value == path] or [""]
            expected = ours[name].endswith(value.removeprefix(there)) and ours[name].startswith(str(tmp_path))
            assert expected if there else ours[name] == "http://127.0.0.1:1"


def test_only_those_that_serve_links_and_latents_have_the_buckets_key(tmp_path: Path) -> None:
    keys = ("jobs-database", "latents-store", "pictures-store")
    secrets = {"latentworks-secrets": dict.fromkeys(keys, "a"), "latentworks-bucket": BUCKET_KEY}
    pools = ("front", "encoders", "denoisers", "decoders", HEAD)
    with_key = [
        pool for pool in pools if "AWS_SECRET_ACCESS_KEY" in pool_variables(pool, secrets, "http://a", tmp_path)
    ]
    assert with_key == ["front"]


def test_the_longest_time_without_a_picture_is_found() -> None:
    assert Load(answered=[1.0, 2.0, 7.5, 8.0]).longest_gap_s == 5.5
    assert Load().longest_gap_s == 0


class Front:
    """Jobs by their keys, as a server keeps them; what it answers first of all is up to the test."""

    def __init__(self, *first: Exception | int) -> None:
        self.first = list(first)
        self.jobs: dict[str, str] = {}
        self.asked: list[tuple[str, str]] = []

    def answer(self, request: httpx.Request) -> httpx.Response:
        key = request.headers["idempotency-key"]
        self.asked.append((request.url.host, key))
        job = self.jobs.setdefault(key, f"job-{len(self.jobs)}")
        if self.first:
            answer = self.first.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return httpx.Response(answer, json={"error": {"message": "no", "code": "no"}})
        body: dict[str, Any] = {"data": [{"seed": 7, "b64_json": job}]}
        return httpx.Response(200, json=body, headers={"x-job-id": job})


@pytest.fixture
def one_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.cluster.wishes._CLIENTS", 1)
    monkeypatch.setattr("benchmarks.cluster.wishes.time.sleep", lambda _seconds: None)


def granted_by(front: Front, monkeypatch: pytest.MonkeyPatch, hosts: str = "ab") -> Wish:
    """The first wish at doors of these names."""
    client = httpx.MockTransport(front.answer)
    monkeypatch.setattr(Door, "client", lambda door: httpx.Client(base_url=door.url, transport=client))
    with wishes_at([Door(f"http://{host}", {}) for host in hosts]) as wishes:
        while not wishes or not (wishes[0].failed or len(wishes[0].granted) == 2):
            pass
    return wishes[0]


@pytest.mark.usefixtures("one_client")
def test_a_wish_is_asked_again_elsewhere_by_its_key_until_it_is_granted(monkeypatch: pytest.MonkeyPatch) -> None:
    front = Front(httpx.ReadError("cut"), httpx.ConnectError("nobody"), 503)
    wish = granted_by(front, monkeypatch)
    assert front.asked[:5] == [(host, wish.key) for host in "ababa"]
    assert (wish.broke, wish.closed, wish.failed) == (1, 1, "")
    assert {grant.job for grant in wish.granted} == {"job-0"}


@pytest.mark.usefixtures("one_client")
def test_a_wish_that_is_refused_is_not_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    front = Front(422)
    wish = granted_by(front, monkeypatch)
    assert (wish.failed, wish.granted) == ("no", [])
    assert [key for _, key in front.asked].count(wish.key) == 1


def test_what_is_not_installed_is_named_by_its_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BenchmarkError, match="redis-server is not installed; Debian's package is called so"):
        stores.local_stores(tmp_path).__enter__()
    monkeypatch.setattr(postgresql, "_DEBIANS", tmp_path)
    with pytest.raises(BenchmarkError, match="Debian's package is called postgresql"):
        postgresql.require()


def test_a_databases_address_says_the_password_as_an_url_does() -> None:
    server = postgresql.Server(Path("/nowhere"), Path("/nowhere"), 5432)
    parts = urlsplit(server.address_of("jobs"))
    assert (parts.hostname, parts.port, parts.path) == ("127.0.0.1", 5432, "/jobs")
    assert parts.password is not None
    assert "@" not in parts.password
