"""The second stage on a handful of pictures and tiny networks: that it learns, and goes on where it stopped."""

import json
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline

from training import checkpoint
from training.captions import learn_tokenizer
from training.denoiser import load_denoiser, new_denoiser, pipeline, scheduler_for, train
from training.latents import Frozen, LatentSet, latent_set
from training.loop import History
from training.pictures import Picture, PictureSet
from training.settings import DenoiserSettings, LoopSettings, TextEncoderSettings, UNetSettings, VaeSettings
from training.vae import new_vae

pytestmark = [
    pytest.mark.slow,
    # torch, diffusers and transformers warn of packages that are not there and of their own deprecations
    pytest.mark.filterwarnings("ignore"),
]


def loop(steps: int) -> LoopSettings:
    return LoopSettings(
        steps=steps, batch=4, learning_rate=2e-3, warmup=2, compile=False, log_every=5, save_every=10, sample_every=1000
    )


def tiny(steps: int) -> DenoiserSettings:
    return DenoiserSettings(
        text_encoder=TextEncoderSettings(width=16, layers=1, heads=2, loop=loop(30)),
        unet=UNetSettings(channels=(16, 32), attended=(False, True), head_width=8, norm_groups=8, summary_heads=2),
        loop=loop(steps),
    )


@pytest.fixture(scope="module")
def pictures() -> PictureSet:
    rng = np.random.default_rng(0)
    made = [Picture(str(n), f"thing {name}", ("tag",), "3d", n < 4) for n, name in enumerate("abcdef")]
    return PictureSet(rng.integers(0, 255, (6, 128, 128, 3), np.uint8), made)


@pytest.fixture(scope="module")
def frozen(pictures: PictureSet) -> Frozen:
    torch.manual_seed(0)
    vae = new_vae(VaeSettings(channels=(8, 8, 8, 8))).eval()
    return Frozen(vae, learn_tokenizer(pictures.pictures, 600), scheduler_for(tiny(1).noise))


@pytest.fixture(scope="module")
def latents(pictures: PictureSet, frozen: Frozen) -> LatentSet:
    return latent_set(tiny(1), frozen.vae, pictures)


@pytest.fixture
def store(tmp_path: Path) -> None:
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'mlflow.db'}")
    mlflow.create_experiment("training", artifact_location=(tmp_path / "mlruns").as_uri())


def test_only_drawn_pictures_are_learned(latents: LatentSet) -> None:
    assert [picture.label for picture in latents.pictures] == ["thing a", "thing b", "thing c", "thing d"]
    assert latents.mean.shape == (4, 4, 16, 16)


@pytest.mark.usefixtures("store")
def test_training_goes_on_from_a_checkpoint_alone(tmp_path: Path, frozen: Frozen, latents: LatentSet) -> None:
    train(tiny(10), frozen, latents, tmp_path / "first", start=None)
    first = tmp_path / "first" / "checkpoint"
    assert checkpoint.history(first).samples == 40
    train(tiny(5), frozen, latents, tmp_path / "second", start=first)
    second = checkpoint.history(tmp_path / "second" / "checkpoint")
    assert second.samples == 60
    assert second.hours > checkpoint.history(first).hours > 0
    runs = mlflow.search_runs(experiment_names=["training"], order_by=["start_time"])
    losses = mlflow.MlflowClient().get_metric_history(runs.iloc[0]["run_id"], "loss")
    assert losses[-1].value < losses[0].value, "the text encoder's pretraining learned nothing"


@pytest.mark.usefixtures("store")
def test_a_start_begins_with_the_checkpoints_weights(tmp_path: Path, frozen: Frozen, latents: LatentSet) -> None:
    start = tmp_path / "start"
    checkpoint.save(pipeline(new_denoiser(tiny(1), frozen), frozen), History(0, 0.0), start)
    still = tiny(1).model_copy(update={"loop": loop(1).model_copy(update={"learning_rate": 1e-9})})
    train(still, frozen, latents, tmp_path / "run", start=start)
    went = load_denoiser(tmp_path / "run" / "checkpoint").state_dict()
    for name, tensor in load_denoiser(start).state_dict().items():
        torch.testing.assert_close(went[name], tensor, rtol=0, atol=1e-6)
    with pytest.raises(FileExistsError, match="state.pt"):
        train(still, frozen, latents, tmp_path / "run", start=start)


def test_a_checkpoint_holds_the_weights_as_float16_and_no_path(tmp_path: Path, frozen: Frozen) -> None:
    module = new_denoiser(tiny(1), frozen)
    module.text_encoder.config._name_or_path = str(tmp_path)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    checkpoint.save(pipeline(module, frozen), History(7, 0.5), tmp_path / "checkpoint")
    assert checkpoint.history(tmp_path / "checkpoint") == History(7, 0.5)
    for file in (tmp_path / "checkpoint").rglob("*.json"):
        assert str(tmp_path) not in json.dumps(json.loads(file.read_text(encoding="utf-8")))
    assert_drawn_with(StableDiffusionPipeline.from_pretrained(tmp_path / "checkpoint"))
    loaded = load_denoiser(tmp_path / "checkpoint").state_dict()
    for name, tensor in module.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0, msg="saving must not round what is trained")
        assert loaded[name].dtype == tensor.dtype
        if tensor.is_floating_point():
            torch.testing.assert_close(loaded[name], tensor.half().float(), rtol=0, atol=0)


def assert_drawn_with(pipe: StableDiffusionPipeline) -> None:
    """What a user of diffusers does, with no word about precision."""
    pipe.set_progress_bar_config(disable=True)
    (image,) = pipe("thing", num_inference_steps=1, output_type="np").images
    assert image.shape == (128, 128, 3)
