"""`python -m pipeline.trial` on the tiny bundle; tests/registry/test_gate.py tries bad candidates."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from components.contract import PARTS, Kind
from components.folder import read_manifest, write_manifest
from components.messages import Pixels
from components.trial import TrialOrder, TrialReport
from pipeline import examination
from pipeline.examination import LOOSEST_GOLDEN, try_component
from pipeline.trial_parts import Part
from pipeline.trial_pictures import EQUAL_DB, psnr
from tests.bad_components import BAD, add_golden_cases, lenient_cases, other_weights
from tests.pipeline.conftest import CONTRACTS, HIDDEN, Networks, write_component

ROOM = 4 << 30
DRIVEN = """
import sys
import pipeline.trial
assert not {"numpy", "onnxruntime", "tokenizers"} & sys.modules.keys(), "imported before there are limits"
"""


@pytest.fixture(scope="module")
def tried(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[Kind, Path]:
    """The tiny bundle with golden cases."""
    folder = tmp_path_factory.mktemp("tried")
    for kind in PARTS:
        shutil.copytree(bundle / kind, folder / kind)
        add_golden_cases(folder / kind)
    return {kind: folder / kind for kind in PARTS}


def order_of(parts: dict[Kind, Path], kind: Kind, **more: object) -> TrialOrder:
    order = TrialOrder(candidate=parts[kind], current=parts[kind], beside=parts, time_s=120, memory_bytes=ROOM)
    return order.model_copy(update=more)


def in_a_child(order: TrialOrder, code: str = "") -> "subprocess.CompletedProcess[bytes]":
    script = f"{code}\nimport pipeline.trial\npipeline.trial.main()"
    return subprocess.run(
        [sys.executable, "-c", script],
        input=order.model_dump_json().encode(),
        capture_output=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )


@pytest.mark.parametrize("kind", PARTS)
def test_every_kind_passes_against_itself(tried: dict[Kind, Path], kind: Kind) -> None:
    done = in_a_child(order_of(tried, kind, tolerance_db=100.0), DRIVEN)
    assert done.returncode == 0, done.stderr
    report = TrialReport.model_validate_json(done.stdout, strict=True)
    assert (report.reasons, report.notes) == ((), ())
    assert report.figures["psnr_min"] == EQUAL_DB
    assert report.figures["peak_memory_mb"] > 50


def test_the_limits_are_set_before_the_candidate_is_looked_at(tried: dict[Kind, Path]) -> None:
    code = """
import json, os, resource, signal, sys
import pipeline.examination, pipeline.trial
def seen(order):
    import threading
    limits = [resource.getrlimit(each) for each in (resource.RLIMIT_DATA, resource.RLIMIT_CORE)]
    sys.stderr.write(json.dumps({"nice": os.nice(0), "limits": limits, "alarm": signal.alarm(0)}))
    print("what a library prints")
    os.write(1, b"and what one writes")
    os._exit(0)
pipeline.examination.try_component = seen
"""
    done = in_a_child(order_of(tried, Kind.VAE_DECODER, time_s=50), code)
    found = json.loads(done.stderr.split(b"}")[0] + b"}")
    assert found["nice"] == min(19, os.nice(0) + 10)
    assert found["limits"] == [[ROOM, ROOM], [0, 0]]
    assert 50 < found["alarm"] <= 60
    assert done.stdout == b"", "only the report comes on stdout"


@pytest.mark.slow
def test_a_trial_ends_by_itself_where_nobody_ends_it(tried: dict[Kind, Path], tmp_path: Path) -> None:
    endless = BAD["an endless loop"].make(tried[Kind.VAE_DECODER], tmp_path / "endless")
    order = order_of(tried, Kind.VAE_DECODER, candidate=endless, time_s=3)
    done = in_a_child(order, "import pipeline.trial; pipeline.trial._GRACE_S = 0")
    assert done.returncode == -signal.SIGALRM


def test_data_outside_the_folder_is_refused_although_it_is_there(tried: dict[Kind, Path], tmp_path: Path) -> None:
    made = BAD["external data outside the folder"].make(tried[Kind.VAE_DECODER], tmp_path / "made")
    assert (tmp_path / "outside.data").stat().st_size > 0
    report = try_component(order_of(tried, Kind.VAE_DECODER, candidate=made))
    assert "cannot load graph" in report.reasons[0]


@pytest.mark.parametrize("kind", [Kind.TEXT_ENCODER, Kind.DENOISER, Kind.VAE_DECODER])
def test_pictures_of_both_are_written(tried: dict[Kind, Path], tmp_path: Path, kind: Kind) -> None:
    other = other_weights(tried[kind], tmp_path / "other", noise=0.01)
    file = tmp_path / "pictures.png"
    report = try_component(order_of(tried, kind, candidate=other, pictures=file))
    assert report.reasons == ()
    assert 20 < report.figures["psnr_min"] < EQUAL_DB
    with Image.open(file) as sheet:
        top, bottom = np.split(np.asarray(sheet), 2)
        assert not np.array_equal(top, bottom)
    alone = try_component(order_of(tried, kind, candidate=other, current=None, pictures=file))
    assert alone.notes == ("compared with nothing: there is no current version",)
    with Image.open(file) as sheet:
        assert np.array_equal(np.asarray(sheet), top)


def test_a_kind_without_a_stage_of_its_own_is_tried_too(tried: dict[Kind, Path], tmp_path: Path) -> None:
    """A small decoder for previews: no chain, but pictures."""

    def made(name: str, scale: float) -> Path:
        path = other_weights(tried[Kind.VAE_DECODER], tmp_path / name, scale=scale)
        manifest = read_manifest(path)
        contract = manifest.contract.model_copy(update={"kind": Kind.PREVIEW_DECODER})
        return write_manifest(path, manifest.model_copy(update={"contract": contract})).path

    order = order_of(tried, Kind.VAE_DECODER, current=made("current", 1.0), tolerance_db=20.0)
    report = try_component(order.model_copy(update={"candidate": made("near", 1.01)}))
    assert (report.reasons, report.compared) == ((), "pictures of golden latents")
    flat = try_component(order.model_copy(update={"candidate": made("flat", 0.0)}))
    assert "the picture of golden latents 1 is flat" in flat.reasons[0]


def test_what_a_decoder_makes_of_noise_does_not_condemn_it(
    tried: dict[Kind, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that differs on golden latents alone is judged by pictures of the chain."""
    near = other_weights(tried[Kind.VAE_DECODER], tmp_path / "near", noise=0.01)
    far = other_weights(tried[Kind.VAE_DECODER], tmp_path / "far", scale=-1.0)
    order = order_of(tried, Kind.VAE_DECODER, tolerance_db=20.0)
    assert try_component(order.model_copy(update={"candidate": near})).compared == "pictures of golden latents"
    refused = try_component(order.model_copy(update={"candidate": far}))
    assert refused.reasons[0].startswith("pictures of four prompts: PSNR against the current version is")
    alone = try_component(order.model_copy(update={"candidate": far, "beside": {}}))
    assert alone.reasons[0].startswith("pictures of golden latents: PSNR against the current version is")

    decoded = examination._decoded
    monkeypatch.setattr(examination, "_decoded", _inverted_once(decoded))
    saved = try_component(order.model_copy(update={"candidate": near}))
    assert (saved.reasons, saved.compared) == ((), "pictures of four prompts")


def _inverted_once(decoded: Callable[[Part, Part], list[Pixels]]) -> Callable[[Part, Part], list[Pixels]]:
    """Gives the first decoder's pictures of golden latents in other colours, and the next one's as they are."""
    calls = count()

    def inverted(part: Part, golden: Part) -> list[Pixels]:
        pictures = decoded(part, golden)
        return [~each for each in pictures] if next(calls) == 0 else pictures

    return inverted


def test_the_same_trial_draws_the_same_pictures(tried: dict[Kind, Path], tmp_path: Path) -> None:
    for name in ("first.png", "second.png"):
        try_component(order_of(tried, Kind.DENOISER, pictures=tmp_path / name))
    assert (tmp_path / "first.png").read_bytes() == (tmp_path / "second.png").read_bytes()


def test_a_chain_that_lacks_a_part_draws_nothing(tried: dict[Kind, Path]) -> None:
    beside = {Kind.DENOISER: tried[Kind.DENOISER]}
    report = try_component(order_of(tried, Kind.TEXT_ENCODER, beside=beside))
    assert report.reasons == ()
    assert report.notes == ("drawn with nothing: the bundle has no vae_decoder",)
    assert report.compared == "golden outputs"


def test_text_encoders_are_compared_by_the_layers_that_both_have(
    tried: dict[Kind, Path], networks: Networks, tmp_path: Path
) -> None:
    deep, shallow = tried[Kind.TEXT_ENCODER], tmp_path / "shallow"
    one_layer = CONTRACTS[Kind.TEXT_ENCODER].model_copy(update={"outputs": (HIDDEN,), "skipped_layers": ()})
    write_component(shallow, one_layer, networks)
    add_golden_cases(shallow)
    beside = {Kind.DENOISER: tried[Kind.DENOISER]}
    for candidate, current in ((shallow, deep), (deep, shallow)):
        order = order_of(tried, Kind.TEXT_ENCODER, candidate=candidate, current=current, beside=beside)
        report = try_component(order)
        assert (report.reasons, report.compared) == ((), "golden outputs")
        assert report.figures["psnr_min"] == EQUAL_DB
    assert "picture_s" not in report.figures


def test_a_broken_part_beside_it_is_named(tried: dict[Kind, Path], tmp_path: Path) -> None:
    broken = BAD["0 bytes"].make(tried[Kind.VAE_DECODER], tmp_path / ("0" * 64))
    report = try_component(order_of(tried, Kind.DENOISER, beside=tried | {Kind.VAE_DECODER: broken}))
    assert len(report.reasons) == 1
    assert report.reasons[0].startswith("vae_decoder: ONNX Runtime cannot load graph")


def test_a_tokenizer_that_is_none_is_a_reason_without_a_path(tried: dict[Kind, Path], tmp_path: Path) -> None:
    made = other_weights(tried[Kind.TEXT_ENCODER], tmp_path / "made", noise=0.01)
    (made / "tokenizer.json").write_text("{}" + " " * ((made / "tokenizer.json").stat().st_size - 2))
    report = try_component(order_of(tried, Kind.TEXT_ENCODER, candidate=made))
    assert report.reasons[0].startswith("tokenizer.json is no tokenizer")


arrays = st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=8)


@given(arrays, st.floats(-10, 10, width=32))
def test_psnr_is_that_of_the_mean_squared_error(values: list[float], off: float) -> None:
    ours = np.array(values, np.float32)
    theirs = ours + np.float32(off)
    found = psnr(ours, theirs, 255.0)
    error = float(np.mean((ours.astype(np.float64) - theirs.astype(np.float64)) ** 2))
    assert found == psnr(theirs, ours, 255.0)
    assert found == pytest.approx(EQUAL_DB if error == 0 else min(EQUAL_DB, 10 * np.log10(255.0**2 / error)))
    assert psnr(ours, ours, 255.0) == EQUAL_DB


def test_what_is_not_finite_has_no_psnr() -> None:
    for odd in (np.nan, np.inf):
        assert np.isnan(psnr(np.array([odd, 0.0]), np.zeros(2), 255.0))
    assert np.isnan(psnr(np.ones(2), np.zeros(2), np.nan))


def test_a_peak_of_nothing_is_infinitely_far() -> None:
    assert psnr(np.array([1.0]), np.array([0.0]), 0.0) < -100


@pytest.mark.parametrize("kind", PARTS)
def test_a_candidate_does_not_choose_how_far_off_it_may_be(tried: dict[Kind, Path], tmp_path: Path, kind: Kind) -> None:
    report = try_component(order_of(tried, kind, candidate=lenient_cases(tried[kind], tmp_path / "lenient")))
    assert f"{kind}: golden case golden-0.npz is off by" in report.reasons[0]
    allowed = float(report.reasons[0].split("at most ")[1].split()[0])
    assert LOOSEST_GOLDEN <= allowed < 1.0


def test_a_current_version_that_gives_no_numbers_keeps_nothing_away(tried: dict[Kind, Path], tmp_path: Path) -> None:
    odd = BAD["NaN weights"].make(tried[Kind.VAE_ENCODER], tmp_path / "odd")
    report = try_component(order_of(tried, Kind.VAE_ENCODER, current=odd, tolerance_db=20.0))
    assert report.reasons == ()
    assert report.compared is None
    [note] = report.notes
    assert note == (
        "compared with nothing: the current version does not run: output mean is not finite for golden inputs"
    )
