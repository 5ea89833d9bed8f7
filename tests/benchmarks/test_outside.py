"""The work outside `session.run`: its arithmetic, and what is measured on networks whose runs take known times."""

import time
from pathlib import Path

import numpy as np
import pytest

from benchmarks.geometries import geometries, whole_network
from benchmarks.outer_layers import HIDDEN, write_outer_layers
from benchmarks.outside import Geometry, measure_outside
from benchmarks.outside_figures import sample_of, summarise
from benchmarks.replica import made_up_text
from benchmarks.task import Task
from benchmarks.timed_runs import RunSpan, TimedDenoiser
from components.contract import Kind
from components.errors import ComponentError
from components.folder import ComponentFolder
from pipeline.denoiser import Denoiser
from pipeline.jobs import denoise_jobs
from pipeline.request import RequestFields, RequestRules, check_request
from runtime.settings import SessionSettings

ONE_THREAD = SessionSettings(threads=1)


def test_the_share_is_the_time_outside_over_the_time_inside() -> None:
    sample = sample_of(260.0, [RunSpan(5.000, 5.100), RunSpan(5.110, 5.210)])
    assert sample.run_ms == pytest.approx((100, 100))
    assert sample.between_ms == pytest.approx((10,))
    assert sample.share == pytest.approx(0.3)
    assert sample.outside_ms == pytest.approx(30)


def test_figures_are_medians_and_say_which_run_would_just_do() -> None:
    samples = [sample_of(whole_ms, [RunSpan(0.0, 0.1), RunSpan(0.101, 0.201)]) for whole_ms in (210, 220, 900)]
    found = summarise("toy", 1, samples, limit=0.02)
    assert found.share == pytest.approx(0.1)
    assert found.outside_ms == pytest.approx(10)
    assert found.between_ms == pytest.approx(1)
    assert found.run_ms == pytest.approx(100)
    # ten milliseconds outside are two percent of it
    assert found.needed_run_ms == pytest.approx(500)


def test_a_walk_of_one_run_has_nothing_between_runs() -> None:
    found = summarise("toy", 1, [sample_of(110.0, [RunSpan(0.0, 0.1)])], limit=0.02)
    assert found.between_ms is None
    assert found.share == pytest.approx(0.1)


def test_runs_are_timed_around_the_session_alone(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = Denoiser.advance

    def slow(*arguments: object) -> None:
        answer(*arguments)  # type: ignore[arg-type]
        time.sleep(0.02)

    monkeypatch.setattr(Denoiser, "advance", slow)
    geometry = Geometry("toy", task.folders[Kind.DENOISER], task.request, samples={1: 2, 3: 1}, limit=0.08)
    alone, together = measure_outside(geometry, lambda _: None)
    assert (alone.walks, together.walks) == (1, 3)
    assert [len(sample.run_ms) for sample in alone.samples] == [3, 3]
    # three walks of three steps share runs: most of the time all, and one more where one came late
    [sample] = together.samples
    assert 3 <= len(sample.run_ms) < 9
    for sample in (*alone.samples, *together.samples):
        assert sample.outside_ms > 20
        assert min(sample.between_ms) > 20
        assert sum(sample.run_ms) + sum(sample.between_ms) < sample.whole_ms


def test_a_timed_denoiser_draws_what_a_plain_one_draws(task: Task) -> None:
    folder = task.folders[Kind.DENOISER]
    plain, timed = Denoiser(folder, ONE_THREAD), TimedDenoiser(folder, ONE_THREAD)
    [job] = denoise_jobs(task.request, made_up_text(plain.contract, task.request), plain.contract)
    np.testing.assert_array_equal(plain.denoise(job), timed.denoise(job))
    assert len(timed.runs) == 3
    assert all(run.began_s < run.ended_s for run in timed.runs)


@pytest.mark.slow
def test_the_outer_layers_are_a_denoiser_of_sd15s_geometry(tmp_path: Path) -> None:
    folder = write_outer_layers(tmp_path)
    ComponentFolder.open(tmp_path).verify()
    stage = Denoiser(folder, SessionSettings())
    request = check_request(RequestFields(prompt="a", steps=2, width=256, height=256), stage.contract, RequestRules())
    encoded = made_up_text(stage.contract, request)
    assert encoded.arrays["hidden_states"].shape == (2, 77, 768)
    [job] = denoise_jobs(request, encoded, stage.contract)
    latents = stage.denoise(job)
    assert latents.shape == (1, 4, 32, 32)
    # numbers of ordinary size: others could take another time
    assert 0.1 < np.abs(latents).mean() < 100
    convolutions = 4 * 9 * HIDDEN * HIDDEN * 2 + 2 * 9 * HIDDEN * HIDDEN
    assert folder.manifest.files["model.onnx"].size > 4 * convolutions


@pytest.mark.slow
def test_own_geometry_and_sd15s_are_each_held_to_their_share(task: Task, tmp_path: Path) -> None:
    with geometries(task) as found:
        own, layers = found
        assert (own.name, own.limit, own.request) == ("toy", 0.08, task.request)
        assert (layers.name, layers.limit) == ("SD 1.5 at most", 0.02)
        written = layers.folder.path
    assert not written.exists()
    write_outer_layers(_folder(tmp_path / "sd" / Kind.DENOISER))
    whole = whole_network(tmp_path / "sd")
    assert (whole.name, whole.limit) == ("SD 1.5", 0.02)
    for one in (layers, whole):
        assert (one.request.width, one.request.height, one.request.guidance) == (256, 256, 7.5)
    with pytest.raises(ComponentError, match="no such folder"):
        whole_network(tmp_path / "nothing")


def _folder(path: Path) -> Path:
    path.mkdir(parents=True)
    return path
