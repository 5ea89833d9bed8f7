"""Tracks: alone, together and in any mixture."""

import pickle
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from components.contract import Kind
from components.errors import ComponentError
from components.folder import ComponentFolder
from components.messages import DenoiseJob, EncodedText, Snapshot
from diffusion.guidance import agree
from diffusion.noise import SOURCES, noise, slerp
from diffusion.samplers import SAMPLERS, Draw, Sampler, find_sampler
from diffusion.trajectory import Trajectory
from pipeline.denoiser import Denoiser
from pipeline.errors import RequestError
from pipeline.jobs import denoise_jobs
from runtime.errors import RuntimeFault
from runtime.feeds import Feeds
from runtime.interrupt import Interrupt
from runtime.settings import SessionSettings
from tests.pipeline.conftest import CONTRACTS, F32, SCHEDULE, TOKENS, WIDTH, Networks, write_component
from tests.requests import image_request

CPU = SessionSettings(threads=1, provider="cpu")


SHAPE = (1, 4, 8, 8)
MASK = np.arange(64).reshape(8, 8) % 9 < 4


def text(seed: int, tokens: int = TOKENS) -> dict[str, F32]:
    return {"hidden_states": np.random.default_rng(seed).standard_normal((1, tokens, WIDTH), np.float32)}


def alone_row(kind: int) -> dict[str, Any]:
    return {"positive": text(2 * kind)}


def job(kind: int = 0, **changes: Any) -> DenoiseJob:
    base = DenoiseJob(
        rows={"positive": text(2 * kind), "negative": text(2 * kind + 1)},
        steps=5,
        guidance=4.0,
        sampler="ddim",
        schedule="default",
        rng="torch",
        seed=kind,
        subseed=None,
        subseed_strength=0.0,
        height=8,
        width=8,
    )
    return replace(base, **changes)


JOBS = [
    job(0),
    job(1, steps=9),
    job(2, guidance=1.0, rows=alone_row(2)),
    job(3, sampler="euler", steps=3),
    job(4, sampler="euler", guidance=1.0, rows=alone_row(4), steps=7),
    job(5, guidance=0.0),
    job(6, rng="philox", steps=4),
    job(7, subseed=8, subseed_strength=0.5),
    job(8, image_latents=noise(1, 0, SHAPE), strength=0.6),
    job(9, image_latents=noise(1, 0, SHAPE), mask=MASK, sampler="heun", subseed=8, subseed_strength=0.5),
]


@pytest.fixture(scope="module")
def denoiser(bundle: Path) -> Denoiser:
    return Denoiser(ComponentFolder.open(bundle / "denoiser"), CPU)


@pytest.fixture(scope="module")
def alone(denoiser: Denoiser) -> list[bytes]:
    return [denoiser.denoise(each).tobytes() for each in JOBS]


def test_jobs_differ(alone: list[bytes]) -> None:
    assert len(set(alone)) == len(JOBS)


@settings(max_examples=40)
@given(data=st.data())
def test_any_mixture_gives_the_bytes_of_the_track_alone(
    denoiser: Denoiser, alone: list[bytes], data: st.DataObject
) -> None:
    order = data.draw(st.permutations(range(len(JOBS))))
    tracks = {index: denoiser.begin(JOBS[index]) for index in order}
    while waiting := [index for index in order if not tracks[index].done]:
        chosen = data.draw(st.lists(st.sampled_from(waiting), min_size=1, unique=True))
        denoiser.advance([tracks[index] for index in chosen])
    assert [tracks[index].latents.tobytes() for index in range(len(JOBS))] == alone


def test_one_run_takes_two_rows_of_a_guided_track_and_one_of_another(
    denoiser: Denoiser, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = denoiser._session
    seen: list[Feeds] = []
    run = session.run

    def recorded(feeds: Feeds, interrupt: Interrupt | None = None) -> dict[str, Any]:
        seen.append(feeds)
        return run(feeds, interrupt)

    monkeypatch.setattr(session, "run", recorded)
    guided, plain, other = denoiser.begin(JOBS[0]), denoiser.begin(JOBS[2]), denoiser.begin(JOBS[3])
    denoiser.advance([guided, plain, other])
    (feeds,) = seen
    assert [track.rows for track in (guided, plain, other)] == [2, 1, 2]
    assert feeds["latents"].shape == (5, 4, 8, 8)
    assert feeds["timestep"].dtype == np.float32
    assert feeds["timestep"].tolist() == [800.0, 800.0, 800.0, 999.0, 999.0]
    np.testing.assert_array_equal(feeds["hidden_states"][0], JOBS[0].rows["negative"]["hidden_states"][0])
    np.testing.assert_array_equal(feeds["hidden_states"][1], JOBS[0].rows["positive"]["hidden_states"][0])


def test_guidance_zero_ignores_the_prompt(denoiser: Denoiser) -> None:
    base = denoiser.denoise(job(5, guidance=0.0))
    rows = job(5).rows
    np.testing.assert_array_equal(denoiser.denoise(job(5, guidance=0.0, rows={**rows, "positive": text(77)})), base)
    assert not np.array_equal(denoiser.denoise(job(5, guidance=0.0, rows={**rows, "negative": text(77)})), base)


def test_given_noise_stands_in_for_the_seeds(denoiser: Denoiser) -> None:
    given_noise = noise(9, 0, (1, 4, 8, 8))
    np.testing.assert_array_equal(denoiser.denoise(job(0, noise=given_noise)), denoiser.denoise(job(0, seed=9)))
    varied = {"subseed": 3, "subseed_strength": 0.3}
    np.testing.assert_array_equal(
        denoiser.denoise(job(0, noise=given_noise, **varied)), denoiser.denoise(job(0, seed=9, **varied))
    )


@pytest.mark.parametrize("rng", SOURCES)
def test_a_subseed_leads_from_one_noise_to_another(denoiser: Denoiser, rng: str) -> None:
    def denoised(**changes: Any) -> bytes:
        return denoiser.denoise(job(0, rng=rng, **changes)).tobytes()

    shape = (1, 4, 8, 8)
    between = slerp(noise(3, 0, shape, rng), noise(4, 0, shape, rng), 0.4)
    assert denoised(seed=3, subseed=4, subseed_strength=0.0) == denoised(seed=3)
    assert denoised(seed=3, subseed=4, subseed_strength=1.0) == denoised(seed=4)
    assert denoised(seed=3, subseed=4, subseed_strength=0.4) == denoised(noise=between)


@pytest.mark.parametrize("rng", SOURCES)
@pytest.mark.parametrize("variation", [(None, 0.0), (90, 0.3)])
def test_image_k_of_n_is_that_of_its_seeds_alone(
    denoiser: Denoiser, rng: str, variation: tuple[int | None, float]
) -> None:
    subseed, strength = variation
    request = image_request(rng=rng, seed=40, subseed=subseed, subseed_strength=strength, n=3, width=16, height=16)
    encoded = EncodedText({"hidden_states": np.concatenate([text(0)["hidden_states"]] * 2)}, (False, False))
    seeds = [(40 + k, None) if subseed is None else (40, subseed + k) for k in range(3)]
    together = [denoiser.denoise(each) for each in denoise_jobs(request, encoded, denoiser.contract)]
    for latents, (own, own_sub) in zip(together, seeds, strict=True):
        alone = replace(request, seed=own, subseed=own_sub, n=1)
        (single,) = denoise_jobs(alone, encoded, denoiser.contract)
        np.testing.assert_array_equal(latents, denoiser.denoise(single))
    assert len({latents.tobytes() for latents in together}) == 3


def test_a_sampler_draws_on_where_the_first_noise_ended(denoiser: Denoiser, monkeypatch: pytest.MonkeyPatch) -> None:
    row, drawn = find_sampler("ddim"), []

    def start(latents: F32, trajectory: Trajectory, eta: float, draw: Draw) -> Sampler:
        drawn.extend([latents, draw(), draw()])
        return row.start(latents, trajectory, eta)

    monkeypatch.setattr(
        "pipeline.denoiser.find_sampler", lambda _name: SimpleNamespace(start=start, wide_answers=False)
    )
    denoiser.begin(job(0, seed=5))
    generator = torch.Generator("cpu").manual_seed(5)
    expected = [torch.randn((1, 4, 8, 8), generator=generator).numpy() for _ in range(3)]
    deviation = denoiser._trajectories.lay_out("ddim", 5, "default").initial_deviation
    np.testing.assert_allclose(drawn[0], expected[0] * deviation, rtol=1e-6, atol=1e-6 * deviation)
    np.testing.assert_allclose(drawn[1:], expected[1:], rtol=0, atol=5e-7)


def test_the_first_prediction_is_the_networks(denoiser: Denoiser, networks: Networks) -> None:
    track = denoiser.begin(job(0, guidance=1.0, rows=alone_row(0), steps=1))
    query = track.query
    x = query.latents / np.sqrt(query.sigma**2 + 1)
    denoiser.advance([track])
    told = torch.tensor([query.timestep], dtype=torch.float32)
    v = networks.predict(torch.from_numpy(x.astype(np.float32)), told, torch.from_numpy(text(0)["hidden_states"]))
    alpha = 1 / np.sqrt(query.sigma**2 + 1)
    expected = alpha * x - query.sigma * alpha * v.numpy()
    assert track.done
    # the walk of one step ends at the estimate of x0
    np.testing.assert_allclose(track.latents, expected, atol=1e-5)


@pytest.mark.parametrize("sampler", [name for name, row in SAMPLERS.items() if not row.flow])
def test_a_walk_goes_on_from_a_snapshot_with_the_same_bytes(denoiser: Denoiser, sampler: str) -> None:
    whole = job(3, sampler=sampler, steps=4, eta=SAMPLERS[sampler].eta, guidance_start=0.3, guidance_rescale=0.5)
    undisturbed = denoiser.begin(whole)
    snapshots = [Snapshot()]
    places = [(undisturbed.step, undisturbed.rows)]
    while not undisturbed.done:
        denoiser.advance([undisturbed])
        assert undisturbed.estimate is not None
        snapshots.append(snapshots[-1].after(Snapshot((undisturbed.estimate,))))
        places.append((undisturbed.step, undisturbed.rows))
    assert len(snapshots) == undisturbed.evaluations + 1
    for snapshot, place in zip(snapshots, places, strict=True):
        track = denoiser.begin(whole, pickle.loads(pickle.dumps(snapshot)))
        assert (track.evaluation, track.step, track.rows) == (len(snapshot.estimates), *place)
        while not track.done:
            denoiser.advance([track])
        assert track.latents.tobytes() == undisturbed.latents.tobytes()


def test_a_snapshot_of_another_job_is_refused(denoiser: Denoiser) -> None:
    other = Snapshot((np.zeros((1, 4, 8, 16), np.float32),))
    with pytest.raises(RequestError, match="snapshot="):
        denoiser.begin(job(0), other)
    with pytest.raises(RequestError, match="snapshot=6: must be of at most 5 estimates"):
        denoiser.begin(job(0), Snapshot((np.zeros((1, 4, 8, 8), np.float32),) * 6))


def test_steps_outside_the_interval_run_the_conditional_row_alone(denoiser: Denoiser) -> None:
    track = denoiser.begin(job(1, steps=10, sampler="heun", guidance_start=0.2, guidance_end=0.5))
    rows, to_come = [], []
    while not track.done:
        rows.append((track.step, track.rows))
        to_come.append(track.rows_to_come)
        denoiser.advance([track])
    assert to_come == [sum(more for _, more in rows[place:]) for place in range(len(rows))]
    # a step's two evaluations are guided alike
    assert rows == [(step, 2 if 2 <= step < 5 else 1) for step in range(10) for _ in range(1 if step == 9 else 2)]
    assert (track.evaluation, track.step) == (track.evaluations, 10)


def test_an_interval_of_the_first_steps_is_guidance_and_then_none(denoiser: Denoiser) -> None:
    # by hand: the first two steps with guidance, the rest of the same walk without
    guided = denoiser.begin(job(1, steps=5))
    estimates = []
    for _ in range(2):
        denoiser.advance([guided])
        assert guided.estimate is not None
        estimates.append(guided.estimate)
    plain = denoiser.begin(job(1, steps=5, guidance=1.0, rows=alone_row(1)), Snapshot(tuple(estimates)))
    while not plain.done:
        denoiser.advance([plain])
    np.testing.assert_array_equal(denoiser.denoise(job(1, steps=5, guidance_end=0.4)), plain.latents)


def test_adaptive_guidance_drops_the_unconditional_row_for_good(denoiser: Denoiser) -> None:
    cosines, track = [], denoiser.begin(job(1, steps=9))
    answer = track.answer

    def listened(prediction: F32) -> None:
        cosines.append(agree(prediction[:1], prediction[1:]))
        answer(prediction)

    track.answer = listened  # type: ignore[method-assign]
    while not track.done:
        denoiser.advance([track])
    threshold = sorted(cosines)[4]
    dropped = next(step for step, cosine in enumerate(cosines) if cosine >= threshold)
    adaptive = denoiser.begin(job(1, steps=9, adaptive_guidance=threshold))
    rows = []
    while not adaptive.done:
        rows.append(adaptive.rows)
        denoiser.advance([adaptive])
    assert rows == [2] * (dropped + 1) + [1] * (8 - dropped)
    resumed = denoiser.begin(job(1, steps=9, adaptive_guidance=threshold), Snapshot((), agreed=True))
    assert resumed.rows == 1


def test_a_run_that_is_broken_off_moves_nobody(denoiser: Denoiser) -> None:
    track, interrupt = denoiser.begin(job(0)), Interrupt()
    interrupt.break_off()
    with pytest.raises(RuntimeFault, match="could not run"):
        denoiser.advance([track], interrupt)
    assert (track.evaluation, track.estimate) == (0, None)
    denoiser.advance([track], Interrupt())
    assert track.evaluation == 1


def test_tracks_of_two_shapes_share_no_run(denoiser: Denoiser) -> None:
    small, large = denoiser.begin(job(0)), denoiser.begin(job(0, width=9))
    fewer = denoiser.begin(job(0, rows={"positive": text(1, 5), "negative": text(2, 5)}))
    assert len({small.signature, large.signature, fewer.signature}) == 3
    for other in (large, fewer):
        with pytest.raises(AssertionError, match="several signatures"):
            denoiser.advance([small, other])
    with pytest.raises(AssertionError, match="twice"):
        denoiser.advance([small, small])
    with pytest.raises(AssertionError, match="or none"):
        denoiser.advance([])
    assert (small.step, large.step) == (0, 0)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sampler": "magic"}, "sampler='magic': must be one of ddim, ddpm, deis"),
        ({"rng": "magic"}, "rng='magic': must be one of philox, torch"),
        ({"seed": -1}, "seed=-1"),
        ({"steps": 0}, "steps=0"),
        ({"noise": np.zeros((1, 4, 8, 9), np.float32)}, "noise="),
        ({"noise": np.zeros((1, 4, 8, 8))}, "float64"),
        ({"guidance_rescale": 1.5}, "guidance_rescale=1.5"),
        ({"guidance_start": 0.5, "guidance_end": 0.5}, "guidance_start=0.5"),
        ({"adaptive_guidance": 0.0}, "adaptive_guidance=0.0"),
        ({"eta": 0.5, "sampler": "euler"}, "eta=0.5: must be 0 for euler"),
        ({"guidance": 1.0}, "rows='negative, positive': must be positive at guidance 1"),
        ({"rows": alone_row(0)}, "rows='positive': must be negative, positive at guidance 4"),
        ({"rows": {"positive": text(1), "negative": text(1, 5)}}, "rows="),
        ({"rows": {"positive": {}, "negative": text(1)}}, "positive="),
        ({"rows": {"positive": {"other": text(1)["hidden_states"]}, "negative": text(1)}}, "positive='other'"),
        ({"rows": {"positive": text(1), "negative": {**text(1), "other": text(1)["hidden_states"]}}}, "negative="),
        (
            {"rows": {"positive": {"hidden_states": text(1)["hidden_states"][..., :3]}, "negative": text(1)}},
            "positive='hidden_states float32 [1, 8, 3]': must be float32 [1, tokens, 6]",
        ),
        ({"rows": {"positive": {"hidden_states": text(1)["hidden_states"][0]}, "negative": text(1)}}, "positive="),
        ({"rows": {"positive": {"hidden_states": np.zeros((1, 8, 6))}, "negative": text(1)}}, "float64"),
    ],
)
def test_a_job_that_does_not_fit_is_refused(denoiser: Denoiser, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(RequestError) as caught:
        denoiser.begin(job(0, **changes))
    assert words in str(caught.value)


def test_a_size_that_the_network_cannot_take_is_refused(networks: Networks, tmp_path: Path) -> None:
    contract = CONTRACTS[Kind.DENOISER].model_copy(update={"latent_multiple": 4})
    write_component(tmp_path / "deep", contract, networks)
    deep = Denoiser(ComponentFolder.open(tmp_path / "deep"), CPU)
    assert deep.denoise(job(0, width=12)).shape == (1, 4, 8, 12)
    with pytest.raises(RequestError, match="height=10: must be a multiple of 4"):
        deep.begin(job(0, height=10))
    with pytest.raises(RequestError, match="width=9: must be a multiple of 4"):
        deep.begin(job(0, width=9))


def test_it_warms_up(denoiser: Denoiser, monkeypatch: pytest.MonkeyPatch) -> None:
    denoiser.warm_up()
    monkeypatch.setattr(denoiser._session, "run", lambda _feeds: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        denoiser.warm_up()


def test_it_takes_arrays_that_cannot_be_written(denoiser: Denoiser, alone: list[bytes]) -> None:
    # Ray hands every array over read-only
    locked = job(0)
    for array in (array for row in locked.rows.values() for array in row.values()):
        array.flags.writeable = False
    assert denoiser.denoise(locked).tobytes() == alone[0]


def test_a_component_of_another_kind_or_interface_is_refused(bundle: Path, networks: Networks, tmp_path: Path) -> None:
    with pytest.raises(ComponentError, match="must be a denoiser"):
        Denoiser(ComponentFolder.open(bundle / "vae_decoder"), CPU)
    contract = CONTRACTS[Kind.DENOISER]
    renamed = contract.model_copy(update={"outputs": (contract.outputs[0].model_copy(update={"name": "noise"}),)})
    write_component(tmp_path / "renamed", contract, networks)
    folder = ComponentFolder.open(tmp_path / "renamed")
    odd = replace(folder, manifest=folder.manifest.model_copy(update={"contract": renamed}))
    with pytest.raises(ComponentError, match="outputs are noise, must be prediction"):
        Denoiser(odd, CPU)


def test_a_schedule_that_cannot_be_walked_is_refused_at_the_start(networks: Networks, tmp_path: Path) -> None:
    wrong = SCHEDULE.model_copy(update={"beta_end": 0.99999})
    contract = CONTRACTS[Kind.DENOISER].model_copy(update={"noise_schedule": wrong})
    write_component(tmp_path / "wrong", contract, networks)
    with pytest.raises(ComponentError, match="beta_end"):
        Denoiser(ComponentFolder.open(tmp_path / "wrong"), CPU)
