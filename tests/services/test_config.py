"""`python -m services.config`: Serve's config from typed arguments, held against `serve build` and Serve's schema."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from ray.serve import Application
from ray.serve.schema import ServeDeploySchema

import ray_app
from services.config import ConfigError, config_text, read_args, serve_config
from services.own_options import chosen
from services.settings import GraphArgs
from services.stage_args import DenoiserArgs

ROOT = Path(__file__).parents[2]
SERVE = Path(sys.executable).with_name("serve")


def deployments(text: str) -> dict[str, dict[str, Any]]:
    config = yaml.safe_load(config_text(read_args(text)))
    ServeDeploySchema.model_validate(config)
    return {each["name"]: each for each in config["applications"][0]["deployments"]}


def test_deployments_are_those_of_the_code(tmp_path: Path) -> None:
    """What `serve build ray_app:graph` says of the code, without any bundle on disk."""
    out = tmp_path / "built.yaml"
    command: list[str | Path] = [SERVE, "build", "ray_app:graph", "--output-path", out]
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "LATENTWORKS_BUNDLE": "nowhere"}
    subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True)
    assert not (tmp_path / ".latentworks").exists(), "serve build opened a registry"
    [built], [ours] = yaml.safe_load(out.read_text())["applications"], serve_config(GraphArgs())["applications"]
    assert (ours["import_path"], ours["route_prefix"]) == ("ray_app:configured", built["route_prefix"])
    by_name = {each["name"]: each for each in built["deployments"]}
    assert {each["name"]: each for each in ours["deployments"]} == by_name


def test_default_deployments_fit_on_two_cores() -> None:
    needed = sum(each["ray_actor_options"]["num_cpus"] for each in deployments("{}").values())
    assert needed <= 1.5


def test_options_of_a_stage_stand_in_its_own_environment() -> None:
    found = deployments("denoiser: {run_rows: 16, provider: cpu, replicas: 3, pool: large}")
    options = found["denoiser"]["ray_actor_options"]
    variables = options["runtime_env"]["env_vars"]
    assert variables == {"LATENTWORKS_DENOISER__RUN_ROWS": "16", "LATENTWORKS_DENOISER__PROVIDER": "cpu"}
    assert chosen(DenoiserArgs(), "denoiser", variables) == DenoiserArgs(run_rows=16, provider="cpu")
    assert (found["denoiser"]["num_replicas"], options["label_selector"]) == (3, {"pool": "large"})
    rest = {name: each for name, each in found.items() if name != "denoiser"}
    assert rest == {name: each for name, each in deployments("{}").items() if name != "denoiser"}


def test_what_is_the_graphs_stands_in_its_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    text = (
        "{bundle: other, rules: {max_images: 2}, ingress: {replicas: 2, max_images: 9}, graph: {write_prompts: false}}"
    )
    [application] = serve_config(read_args(text))["applications"]
    variables = application["runtime_env"]["env_vars"]
    assert variables == {
        "LATENTWORKS_BUNDLE": "other",
        "LATENTWORKS_RULES__MAX_IMAGES": "2",
        "LATENTWORKS_INGRESS__MAX_IMAGES": "9",
        "LATENTWORKS_GRAPH__WRITE_PROMPTS": "false",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    args = GraphArgs()
    assert (args.bundle, args.rules.max_images, args.ingress.max_images) == ("other", 2, 9)
    assert args.graph.write_prompts is False


def test_what_is_accepted_here_is_accepted_where_the_graph_is_built(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """There nobody knows what stands in the deployments' entries, such as the calls that the graph takes at a time."""
    text = "{ingress: {max_images: 1500}, graph: {max_ongoing_requests: 3000}, denoiser: {max_ongoing_requests: 3000}}"
    [application] = serve_config(read_args(text))["applications"]
    variables = application["runtime_env"]["env_vars"]
    assert variables == {"LATENTWORKS_INGRESS__MAX_IMAGES": "1500"}
    for name, value in {**variables, "LATENTWORKS_BUNDLE": "nowhere", "LATENTWORKS_HOME": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    assert isinstance(ray_app.configured, Application)
    # whoever takes the environment for all there is has less to go by
    with pytest.raises(click.ClickException, match="graph.max_ongoing_requests=1000: must be over"):
        ray_app.graph  # noqa: B018
    # the replicas of the denoiser, are told of it by their own environment
    own = deployments(text)["denoiser"]["ray_actor_options"]["runtime_env"]["env_vars"]
    assert chosen(DenoiserArgs(), "denoiser", own).max_ongoing_requests == 3000


def test_an_option_that_cannot_be_unset_is_told() -> None:
    with pytest.raises(ConfigError, match="text_encoder.threads: cannot be unset, as 1 is the default"):
        serve_config(read_args("text_encoder: {threads: null}"))


def test_with_bounds_it_scales_between_them() -> None:
    scaled = deployments("vae_decoder: {replicas: 2, max_replicas: 5, ongoing_target: 3, upscale_delay_s: 1.5}")
    assert "num_replicas" not in scaled["vae_decoder"]
    assert scaled["vae_decoder"]["autoscaling_config"] == {
        "min_replicas": 2,
        "max_replicas": 5,
        "target_ongoing_requests": 3,
        "upscale_delay_s": 1.5,
        "downscale_delay_s": 600,
    }


def test_a_stage_that_rests_is_told_to_serve_and_the_bound_of_what_is_held_to_the_graph() -> None:
    text = "{denoiser: {replicas: 0, max_replicas: 2, downscale_to_zero_delay_s: 60}, graph: {max_held: 8}}"
    found = deployments(text)["denoiser"]
    scaled = found["autoscaling_config"]
    assert (scaled["min_replicas"], scaled["max_replicas"], scaled["downscale_to_zero_delay_s"]) == (0, 2, 60)
    assert "runtime_env" not in found["ray_actor_options"], "a stage without replicas is asked nothing"
    [application] = serve_config(read_args(text))["applications"]
    assert application["runtime_env"]["env_vars"] == {"LATENTWORKS_GRAPH__MAX_HELD": "8"}


def test_new_replicas_start_before_old_ones_stop_but_of_what_there_is_one() -> None:
    surges = {name: each.get("max_surge_percent", 0) for name, each in deployments("{}").items()}
    assert {name for name, surge in surges.items() if surge == 0} == {"rollout", "latents", "jobs"}
    assert set(surges.values()) == {0, 100}


def test_the_environment_of_whoever_makes_it_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    before = config_text(read_args("{}"))
    monkeypatch.setenv("LATENTWORKS_DENOISER__REPLICAS", "7")
    monkeypatch.setenv("LATENTWORKS_NO_SETTING", "7")
    assert config_text(read_args("{}")) == before


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("denoiser: {run_rows: 1}", "denoiser.run_rows=1: Input should be greater than or equal to 2"),
        ("denoiser: {replicas: 3, max_replicas: 2}", "denoiser: max_replicas=2: must be at least replicas, which is 3"),
        ("denoiser: {pool: 'a b'}", "denoiser.pool='a b': String should match pattern"),
        ("latents: {replicas: 2}", "latents.replicas=2: Extra inputs are not permitted"),
        ("denoisr: {}", "denoisr: Extra inputs are not permitted"),
        ("ingress: {replicas: 20}", "graph.max_ongoing_requests=1000: must be over 1320"),
        ("ingress: {max_replicas: 20}", "graph.max_ongoing_requests=1000: must be over 1320"),
        ("registry: {home: /x}", "registry: is named by its own variables, in the pods' environment"),
        (
            "jobs: {database: 'postgresql://me:hunter2@there'}",
            "jobs.database: is a secret; name it as LATENTWORKS_JOBS__DATABASE in the pods' environment",
        ),
        ("- a", "must be a mapping of parts and their fields"),
        ("a: [", "is no YAML"),
    ],
)
def test_what_is_wrong_is_one_sentence(text: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_args(text)
    assert str(caught.value).startswith(sentence)
    assert "hunter2" not in str(caught.value)


def test_the_command_prints_it_or_says_why_not(tmp_path: Path) -> None:
    file = tmp_path / "graph.yaml"
    command = [sys.executable, "-m", "services.config", str(file)]

    def run() -> "subprocess.CompletedProcess[str]":
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    refused = run()
    assert (refused.returncode, refused.stderr) == (1, f"{file}: No such file or directory\n")
    file.write_text("denoiser: {replicas: 2}")
    assert run().stdout == config_text(read_args(file.read_text()))
    file.write_text("denoiser: {replicas: -1}")
    assert run().stderr == f"{file}: denoiser.replicas=-1: Input should be greater than or equal to 0\n"
