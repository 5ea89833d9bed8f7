"""Small decoders on a handful of pictures: that they learn, go on where they stopped, and are read by diffusers."""

import json
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch
from diffusers import AutoencoderTiny, StableDiffusionPipeline

from tests.training.test_denoiser import tiny
from training.captions import learn_tokenizer
from training.checkpoint import history
from training.decoder_targets import DecoderTargets, decode, decoder_targets
from training.denoiser import new_denoiser, pipeline, scheduler_for
from training.latents import Frozen
from training.loop import History
from training.pictures import Picture, PictureSet
from training.settings import DecoderSettings, DecoderTargetsSettings, LoopSettings, VaeSettings
from training.tiny_decoder import decode_tiny, new_decoder, save, train
from training.vae import new_vae, tensor_to_pixels

pytestmark = [
    pytest.mark.slow,
    # torch, diffusers and transformers warn of packages that are not there and of their own deprecations
    pytest.mark.filterwarnings("ignore"),
]
TARGETS = DecoderTargetsSettings(walks=2, steps=2, foretold=3)
HELD_OUT = 200


def settings(steps: int) -> DecoderSettings:
    loop = LoopSettings(
        steps=steps, batch=4, learning_rate=5e-3, warmup=2, compile=False, log_every=5, save_every=10, sample_every=1000
    )
    return DecoderSettings(width=8, blocks=(1, 0, 0, 0), targets=TARGETS, loop=loop)


@pytest.fixture(scope="module")
def pictures() -> PictureSet:
    """So many that some are left when the held-out ones are taken away: patches of colour, which can be learned."""
    patches = np.random.default_rng(0).integers(0, 255, (HELD_OUT + 6, 4, 4, 3), np.uint8)
    made = [Picture(str(n), f"thing {n}", ("tag",), "3d", True) for n in range(len(patches))]
    return PictureSet(patches.repeat(32, axis=1).repeat(32, axis=2), made)


@pytest.fixture(scope="module")
def pipe(pictures: PictureSet) -> StableDiffusionPipeline:
    torch.manual_seed(0)
    vae = new_vae(VaeSettings(channels=(8, 8, 8, 8))).eval()
    frozen = Frozen(vae, learn_tokenizer(pictures.pictures[:8], 600), scheduler_for(tiny(1).noise))
    return pipeline(new_denoiser(tiny(1), frozen).eval(), frozen)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("targets")


@pytest.fixture(scope="module")
def targets(pipe: StableDiffusionPipeline, pictures: PictureSet, folder: Path) -> DecoderTargets:
    return decoder_targets(TARGETS, pipe, pictures, folder)


@pytest.fixture
def store(tmp_path: Path) -> None:
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'mlflow.db'}")
    mlflow.create_experiment("training", artifact_location=(tmp_path / "mlruns").as_uri())


def test_no_held_out_picture_is_learned(targets: DecoderTargets, pictures: PictureSet) -> None:
    known = np.delete(pictures.pixels, pictures.held_out(), axis=0)
    np.testing.assert_array_equal(targets.wanted[:6], known)
    assert targets.mean.shape == targets.deviation.shape == (6 + 2 + 3, 4, 16, 16)


def test_what_the_denoiser_made_is_wanted_as_the_vae_decodes_it(
    targets: DecoderTargets, pipe: StableDiffusionPipeline
) -> None:
    np.testing.assert_array_equal(targets.wanted[6:], targets.taught[6:])
    assert targets.deviation[:6].min() > 0
    assert targets.deviation[6:].abs().max() == 0
    assert len({row.numpy().tobytes() for row in targets.mean}) == len(targets.mean), "some were made twice"
    with torch.no_grad():
        theirs = pipe.vae.decode(targets.mean / pipe.vae.config.scaling_factor).sample
    assert np.abs(tensor_to_pixels(theirs).astype(int) - targets.taught).max() <= 1


def test_a_foretold_latent_is_the_schedulers_own(pipe: StableDiffusionPipeline) -> None:
    """The arithmetic that stands in for a step of the scheduler, which takes one timestep for all rows."""
    generator = torch.Generator().manual_seed(0)
    noisy, velocity = torch.randn(2, 1, 4, 16, 16, generator=generator)
    for timestep in (0, 400, 999):
        pipe.scheduler.set_timesteps(pipe.scheduler.config.num_train_timesteps)
        expected = pipe.scheduler.step(velocity, timestep, noisy).pred_original_sample
        ours = pipe.scheduler.get_velocity(velocity, noisy, torch.tensor([timestep]))
        torch.testing.assert_close(ours, expected)


def test_targets_are_made_once_for_the_same_weights(
    pipe: StableDiffusionPipeline, pictures: PictureSet, folder: Path, targets: DecoderTargets
) -> None:
    again = decoder_targets(TARGETS, pipe, pictures, folder)
    torch.testing.assert_close(again.mean, targets.mean, rtol=0, atol=0)
    assert len(list(folder.iterdir())) == 1
    decoder_targets(TARGETS.model_copy(update={"walks": 1}), pipe, pictures, folder)
    assert len(list(folder.iterdir())) == 2


@pytest.mark.usefixtures("store")
def test_a_decoder_learns_and_goes_on_where_it_stopped(
    tmp_path: Path, pipe: StableDiffusionPipeline, pictures: PictureSet, targets: DecoderTargets
) -> None:
    parts, whole = tmp_path / "parts", tmp_path / "whole"
    for steps, place in ((20, parts), (60, parts), (60, whole)):
        train("small", settings(steps), pipe.vae, targets, pictures, place)
    assert history(parts / "checkpoint").samples == 240
    ours, theirs = (AutoencoderTiny.from_pretrained(place / "checkpoint").state_dict() for place in (parts, whole))
    for name in ours:
        if name.startswith("decoder."):
            torch.testing.assert_close(ours[name], theirs[name], rtol=0, atol=0)
    runs = mlflow.search_runs(experiment_names=["training"], order_by=["start_time"])
    assert runs["tags.mlflow.runName"].tolist() == ["small_decoder"] * 2
    psnr = [each.value for each in mlflow.MlflowClient().get_metric_history(runs.iloc[0]["run_id"], "psnr")]
    assert np.mean(psnr[-3:]) > np.mean(psnr[:3]) + 1


def test_a_checkpoint_is_read_by_diffusers_and_takes_the_place_of_the_vae(
    tmp_path: Path, pipe: StableDiffusionPipeline
) -> None:
    decoder = new_decoder(settings(1), pipe.vae).eval()
    save(decoder, History(7, 0.5), tmp_path / "small")
    assert history(tmp_path / "small") == History(7, 0.5)
    assert "_name_or_path" not in json.loads((tmp_path / "small" / "config.json").read_text())
    loaded = AutoencoderTiny.from_pretrained(tmp_path / "small")
    for name, tensor in decoder.decoder.state_dict().items():
        torch.testing.assert_close(loaded.decoder.state_dict()[name], tensor.half().float(), rtol=0, atol=0)
    swapped = StableDiffusionPipeline(**{**pipe.components, "vae": loaded}, requires_safety_checker=False)
    swapped.set_progress_bar_config(disable=True)
    noise = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    latents, image = (
        swapped("thing", latents=noise, num_inference_steps=2, output_type=kind).images for kind in ("latent", "pt")
    )
    torch.testing.assert_close(image * 2 - 1, decode_tiny(loaded, latents), rtol=0, atol=1e-5)


def test_the_vaes_own_picture_is_that_of_diffusers_pipeline(pipe: StableDiffusionPipeline) -> None:
    pipe.set_progress_bar_config(disable=True)
    noise = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    latents, image = (
        pipe("thing", latents=noise, num_inference_steps=2, output_type=kind).images for kind in ("latent", "pt")
    )
    torch.testing.assert_close(image * 2 - 1, decode(pipe.vae, latents), rtol=0, atol=1e-5)
