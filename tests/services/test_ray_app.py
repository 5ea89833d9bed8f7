"""The composition root: what starting it does before Ray, and how a start that cannot succeed ends."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click
import onnx
import pytest
from ray.serve import Application
from ray.serve._private.api import call_user_app_builder_with_args_if_necessary

import ray_app
from components.contract import Kind
from components.folder import ComponentFolder, record_files, write_manifest
from services.settings import GraphArgs

ROOT = Path(__file__).parents[2]
SERVE = str(Path(sys.executable).with_name("serve"))
MODULES = """
import importlib, json, pathlib, sys
for file in sorted(pathlib.Path("services").rglob("*.py")):
    importlib.import_module(".".join(file.with_suffix("").parts).removesuffix(".__init__"))
import ray, ray_app
print(json.dumps({"modules": sorted(sys.modules), "started": ray.is_initialized()}))
"""


def environment(home: Path, **variables: str) -> dict[str, str]:
    """Nothing of the developer's own registry, Ray or MLflow."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "MLFLOW_", "LATENTWORKS_"))
    }
    return {**kept, "HOME": str(home), "LATENTWORKS_HOME": str(home / "registry"), **variables}


def run(arguments: list[str], home: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        arguments, cwd=ROOT, env=environment(home, **variables), capture_output=True, text=True, timeout=300
    )


@pytest.fixture
def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


@pytest.fixture
def damaged(toy_bundle: Path, tmp_path: Path) -> Path:
    copy = Path(shutil.copytree(toy_bundle, tmp_path / "damaged"))
    with (copy / "denoiser" / "model.onnx").open("r+b") as model:
        model.seek(2000)
        model.write(b"damage")
    return copy


@pytest.mark.slow
def test_importing_starts_nothing_and_loads_no_heavy_library(tmp_path: Path) -> None:
    ended = run([sys.executable, "-c", MODULES], tmp_path)
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    assert not found["started"]
    loaded = {module.partition(".")[0] for module in found["modules"]}
    assert "onnxruntime" in loaded
    assert not loaded & {"torch", "diffusers", "transformers", "safetensors", "onnx", "onnxscript", "mlflow"}
    assert not (tmp_path / "registry").exists()


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"graph.replicas": 0}, "graph.replicas=0: Input should be greater than or equal to 1"),
        (
            {"denoiser.replicas": 0},
            "denoiser: replicas=0: needs max_replicas, without which no replica would ever start",
        ),
        ({"denoiser.replica": "1"}, "denoiser.replica='1': Extra inputs are not permitted"),
        ({"denoiser": {"replica": 1}}, "denoiser.replica=1: Extra inputs are not permitted"),
        ({"denoisr.replicas": 1}, "denoisr: Extra inputs are not permitted"),
        ({"denoiser": 1, "denoiser.replicas": 1}, "denoiser.replicas: denoiser is given as a whole too"),
        ({"ingress.max_images": 1}, "ingress.max_images=1: must be at least rules.max_images, which is 10"),
        ({"denoiser.run_rows": 1}, "denoiser.run_rows=1: Input should be greater than or equal to 2"),
        (
            {"latents.store": "s3://me:a/secret@bucket"},
            "latents.store='s3://***@bucket': must be a folder, or s3://BUCKET/PREFIX without credentials, which the "
            "AWS_* variables hold",
        ),
        (
            {"denoiser.max_ongoing_requests": 64},
            "denoiser.max_ongoing_requests=64: must be over 104, ingress.max_images times its most replicas and "
            "jobs.at_once times rules.max_images",
        ),
        (
            {"ingress.replicas": 20},
            "graph.max_ongoing_requests=1000: must be over 1320, ingress.max_images times its most replicas and "
            "jobs.at_once times rules.max_images",
        ),
    ],
)
def test_wrong_arguments_are_one_sentence(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(click.ClickException) as raised:
        call_user_app_builder_with_args_if_necessary(ray_app.build, given)
    assert raised.value.message == sentence


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        ("DENOISR__REPLICAS", "3", "LATENTWORKS_DENOISR__REPLICAS: no such setting"),
        ("DENOISER", "notjson", "denoiser='notjson': Input should be"),
        ("REGISTRY_RETRIES", "many", "LATENTWORKS_REGISTRY_RETRIES='many': Input should be"),
    ],
)
def test_wrong_variables_are_one_sentence(
    variable: str, value: str, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"LATENTWORKS_{variable}", value)
    with pytest.raises(click.ClickException) as raised:
        ray_app.graph  # noqa: B018
    assert raised.value.message.startswith(sentence)


def test_the_builder_takes_what_serve_hands_over_and_typed_arguments(toy_bundle: Path) -> None:
    given = {"bundle": "toy", "folder": str(toy_bundle)}
    built = call_user_app_builder_with_args_if_necessary(ray_app.build, given)
    assert isinstance(built, Application)
    assert isinstance(ray_app.build(GraphArgs(bundle="toy", folder=toy_bundle)), Application)


def test_settings_of_the_engine_reach_their_deployments(toy_bundle: Path) -> None:
    given = {
        "bundle": "toy",
        "folder": str(toy_bundle),
        "rules.max_pixels": 128 * 128,
        "denoiser.run_rows": 4,
        "denoiser.run_pixels": 4096,
        "denoiser.queued_pictures": 7,
        "denoiser.health_check_period_s": 0.5,
        "graph.snapshot_every": 2,
    }
    _rollout, chain, *_ = ray_app.build(given)._bound_deployment.init_args
    stages = chain._bound_deployment.init_kwargs
    assert stages["settings"].snapshot_every == 2
    denoiser = stages["denoiser"]._bound_deployment
    settings = denoiser.init_args[1]
    assert (settings.args.run_rows, settings.args.run_pixels, settings.args.queued_pictures) == (4, 4096, 7)
    assert settings.rules.max_pixels == 128 * 128
    assert denoiser._deployment_config.health_check_period_s == 0.5


def test_a_damaged_bundle_is_refused_before_anything_starts(damaged: Path, toy_bundle: Path) -> None:
    with pytest.raises(click.ClickException, match="bundle toy: denoiser: the content of model.onnx is not what"):
        ray_app.build(GraphArgs(bundle="toy", folder=damaged))
    (damaged / "denoiser" / "model.onnx").unlink()
    with pytest.raises(click.ClickException, match="denoiser: model.onnx is missing"):
        ray_app.build(GraphArgs(bundle="toy", folder=damaged))
    ray_app.build(GraphArgs(bundle="toy", folder=toy_bundle))


def test_other_attributes_are_missing_as_usual() -> None:
    with pytest.raises(AttributeError, match="nothing"):
        ray_app.nothing  # noqa: B018


@pytest.mark.slow
@pytest.mark.parametrize("how", ["launcher", "serve run graph", "serve run build"])
def test_a_start_with_a_damaged_bundle_ends_in_one_sentence(how: str, damaged: Path, tmp_path: Path) -> None:
    named = {"LATENTWORKS_BUNDLE": "toy", "LATENTWORKS_FOLDER": str(damaged)}
    commands = {
        "launcher": [sys.executable, "ray_app.py"],
        "serve run graph": [SERVE, "run", "ray_app:graph"],
        "serve run build": [SERVE, "run", "ray_app:build", "denoiser.replicas=1"],
    }
    ended = run(commands[how], tmp_path, **named)
    assert ended.returncode == 1
    assert "Traceback" not in ended.stdout + ended.stderr
    sentence = "Error: bundle toy: denoiser: the content of model.onnx is not what component.json says"
    assert ended.stderr.splitlines()[-1] == sentence


@pytest.mark.slow
def test_serve_run_says_a_wrong_argument_in_one_sentence(tmp_path: Path) -> None:
    ended = run([SERVE, "run", "ray_app:build", "denoiser.replica=1"], tmp_path)
    assert ended.returncode == 1
    assert "Traceback" not in ended.stdout + ended.stderr
    assert ended.stderr.splitlines()[-1] == "Error: denoiser.replica='1': Extra inputs are not permitted"


@pytest.mark.slow
def test_a_model_that_breaks_its_contract_ends_in_one_sentence(
    toy_bundle: Path, tmp_path: Path, free_port: str
) -> None:
    """What only ONNX Runtime can find is found in a replica, and said by the launcher."""
    copy = Path(shutil.copytree(toy_bundle, tmp_path / "other"))
    folder = ComponentFolder.open(copy / Kind.VAE_DECODER)
    model = onnx.load(folder.path / "model.onnx")
    model.graph.output[0].name = model.graph.node[0].output[0] = "picture"
    onnx.save(model, folder.path / "model.onnx")
    write_manifest(folder.path, folder.manifest.model_copy(update={"files": record_files(folder.path)}))
    ended = run([sys.executable, "ray_app.py", "bundle=toy", f"folder={copy}", "--port", free_port], tmp_path)
    assert ended.returncode == 1
    (sentence,) = ended.stderr.splitlines()
    assert sentence.startswith("Error: vae_decoder: toy.vae_decoder/1: ")
    assert "picture" in sentence


@pytest.mark.slow
def test_sigterm_while_ray_starts_ends_cleanly(toy_bundle: Path, tmp_path: Path, free_port: str) -> None:
    arguments = [sys.executable, "-u", "ray_app.py", "bundle=toy", f"folder={toy_bundle}", "--port", free_port]
    with subprocess.Popen(
        arguments, cwd=ROOT, env=environment(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as starting:
        assert starting.stdout is not None
        assert starting.stdout.readline().startswith("Starting Ray")
        # Before Ray's core is there: in the tenth of a second in which it puts its own handlers in place, what it does
        # with a signal is its own affair.
        time.sleep(1)
        starting.terminate()
        assert starting.stdout.read() == "Stopped before it was ready.\n"
        assert starting.wait(timeout=60) == 0
