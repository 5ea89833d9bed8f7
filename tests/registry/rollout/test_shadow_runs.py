import itertools
from pathlib import Path

import pytest
from mlflow import MlflowClient

from components.reference import ComponentRef
from registry.registry import Registry
from registry.rollout.shadow_runs import EXPERIMENT, log_shadow
from registry.settings import RegistrySettings
from registry.store import open_client

pytestmark = pytest.mark.slow  # a registry of its own for every test

REF = ComponentRef(name="emoji.vae_decoder", version=2, sha256="0" * 64)


@pytest.fixture
def client(settings: RegistrySettings) -> MlflowClient:
    return open_client(settings)


def test_a_shadows_pictures_are_points_of_one_run(registry: Registry, client: MlflowClient) -> None:
    run = log_shadow(registry, REF, None, 0, [{"psnr_db": 31.0, "seconds": 0.5}, {"failed": 1.0}])
    assert log_shadow(registry, REF, run, 2, [{"psnr_db": 32.0, "seconds": 0.25}]) == run
    found = client.get_run(run)
    assert found.info.run_name == "emoji.vae_decoder/2"
    assert (found.data.tags["component"], found.data.tags["version"]) == ("emoji.vae_decoder", "2")
    points = {name: client.get_metric_history(run, name) for name in ("psnr_db", "seconds", "failed")}
    assert {name: [(point.step, point.value) for point in found] for name, found in points.items()} == {
        "psnr_db": [(0, 31.0), (2, 32.0)],
        "seconds": [(0, 0.5), (2, 0.25)],
        "failed": [(1, 1.0)],
    }


def test_more_pictures_than_a_request_takes_are_all_kept(registry: Registry, client: MlflowClient) -> None:
    pictures = [{"psnr_db": float(index), "seconds": 1.0, "live_seconds": 1.0} for index in range(700)]
    run = log_shadow(registry, REF, None, 5, pictures)
    found = client.get_metric_history(run, "psnr_db")
    assert sorted((point.step, point.value) for point in found) == [
        (step, float(index)) for index, step in zip(range(700), itertools.count(5), strict=False)
    ]


def test_another_shadow_is_another_run_of_the_same_experiment(registry: Registry, client: MlflowClient) -> None:
    runs = [log_shadow(registry, REF.model_copy(update={"version": number}), None, 0, []) for number in (2, 3)]
    experiment = client.get_experiment_by_name(EXPERIMENT)
    assert experiment is not None
    assert [client.get_run(run).info.experiment_id for run in runs] == [experiment.experiment_id] * 2
    assert len(set(runs)) == 2


def test_nothing_is_written_into_the_working_directory(
    registry: Registry,
    client: MlflowClient,
    settings: RegistrySettings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    run = log_shadow(registry, REF, None, 0, [{"psnr_db": 31.0}])
    assert client.get_run(run).info.artifact_uri.startswith(settings.artifacts.as_uri())
    assert list(Path().iterdir()) == []
