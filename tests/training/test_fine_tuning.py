"""Inpainting, the edge adapter and the upscaler, tiny: that they learn, resume, and load and draw in diffusers."""

from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch
from diffusers import (
    StableDiffusionAdapterPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionPipeline,
    StableDiffusionUpscalePipeline,
    T2IAdapter,
    UNet2DConditionModel,
)
from PIL import Image
from torch import nn

from tests.training.test_denoiser import loop, tiny
from training import adapter, checkpoint, inpainting, moving, upscaler
from training.captions import learn_tokenizer
from training.denoiser import draw, new_denoiser, pipeline, scheduler_for
from training.edges import edges
from training.latents import Frozen
from training.pictures import Picture, PictureSet
from training.prompts import Prompts
from training.settings import AdapterSettings, InpaintingSettings, UNetSettings, UpscalerSettings, VaeSettings
from training.vae import new_vae, rescale

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
HELD_OUT = 200
LITTLE = UNetSettings(channels=(16, 32), attended=(False, True), head_width=8, norm_groups=8, summary_heads=2)


@pytest.fixture(scope="module")
def pictures() -> PictureSet:
    """So many that some are left when the held-out ones are taken away: patches of colour."""
    patches = np.random.default_rng(0).integers(0, 255, (HELD_OUT + 6, 4, 4, 3), np.uint8)
    made = [Picture(str(n), f"thing {n}", ("tag",), "3d", True) for n in range(len(patches))]
    return PictureSet(patches.repeat(32, axis=1).repeat(32, axis=2), made)


@pytest.fixture
def pipe(pictures: PictureSet) -> StableDiffusionPipeline:
    torch.manual_seed(0)
    vae = new_vae(VaeSettings(channels=(8, 8, 8, 8))).eval()
    frozen = Frozen(vae, learn_tokenizer(pictures.pictures[:8], 600), scheduler_for(tiny(1).noise))
    return pipeline(new_denoiser(tiny(1), frozen).eval(), frozen)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("store")
    mlflow.set_tracking_uri(f"sqlite:///{folder / 'mlflow.db'}")
    mlflow.create_experiment("training", artifact_location=(folder / "mlruns").as_uri())


def assert_resumed(parts: nn.Module, whole: nn.Module) -> None:
    for (name, ours), theirs in zip(parts.state_dict().items(), whole.state_dict().values(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0, msg=name)


def test_a_masked_unet_begins_as_the_one_that_it_comes_from(pipe: StableDiffusionPipeline) -> None:
    masked = inpainting.new_masked_unet(pipe.unet).eval()
    noisy, more, states = torch.randn(2, 4, 16, 16), torch.randn(2, 5, 16, 16), torch.randn(2, 32, 16)
    with torch.no_grad():
        ours = masked(torch.cat([noisy, more], dim=1), 500, states).sample
        theirs = pipe.unet(noisy, 500, states).sample
    torch.testing.assert_close(ours, theirs)


@pytest.mark.usefixtures("store")
def test_inpainting_learns_without_the_held_out_and_draws_in_diffusers(
    tmp_path: Path, pipe: StableDiffusionPipeline, pictures: PictureSet
) -> None:
    known = inpainting.masked_set(InpaintingSettings(moved=1), pipe, pictures)
    held_out = {pictures.pictures[i].label for i in pictures.held_out()}
    assert len(known.latents.pictures) == 12
    assert not held_out & {picture.label for picture in known.latents.pictures}
    assert known.masks.shape == (12, 1, 16, 16)
    for steps, place in ((2, "parts"), (4, "parts"), (4, "whole")):
        inpainting.train(InpaintingSettings(moved=1, loop=loop(steps)), pipe, pictures, tmp_path / place)
    unet, whole = (UNet2DConditionModel.from_pretrained(tmp_path / name / "unet") for name in ("parts", "whole"))
    assert_resumed(unet, whole)
    assert unet.conv_in.weight[:, 4:].abs().max() > 0, "it did not learn what the mask says"
    assert checkpoint.history(tmp_path / "parts" / "unet").samples == 16
    theirs = StableDiffusionInpaintPipeline(**{**pipe.components, "unet": unet}, requires_safety_checker=False)
    mask = np.zeros((128, 128), np.uint8)
    mask[:, 64:] = 255
    arguments = {"image": Image.fromarray(pictures.pixels[0]), "mask_image": Image.fromarray(mask)}
    (image,) = theirs("thing", **arguments, height=128, width=128, num_inference_steps=2, output_type="np").images
    assert image.shape == (128, 128, 3)


@pytest.mark.usefixtures("store")
def test_the_adapter_alone_learns_and_draws_in_diffusers(
    tmp_path: Path, pipe: StableDiffusionPipeline, pictures: PictureSet
) -> None:
    before = {name: each.clone() for name, each in pipe.unet.state_dict().items()}
    for steps, place in ((2, "parts"), (4, "parts"), (4, "whole")):
        adapter.train(AdapterSettings(blocks=1, moved=1, loop=loop(steps)), pipe, pictures, tmp_path / place)
    for name, each in pipe.unet.state_dict().items():
        torch.testing.assert_close(each, before[name], rtol=0, atol=0)
    trained, whole = (T2IAdapter.from_pretrained(tmp_path / name / "adapter") for name in ("parts", "whole"))
    assert_resumed(trained, whole)
    parts = {name: part for name, part in pipe.components.items() if name != "image_encoder"}
    theirs = StableDiffusionAdapterPipeline(**parts, adapter=trained, requires_safety_checker=False)
    lines = Image.fromarray(edges(pictures.pixels[:1])[0] * 255)
    drawn = {
        scale: theirs(
            "thing",
            image=lines,
            num_inference_steps=25,
            guidance_scale=2.0,
            adapter_conditioning_scale=scale,
            generator=[torch.Generator().manual_seed(0)],
            output_type="np",
        ).images
        for scale in (0.0, 1.0)
    }
    plain = draw(pipe, ["thing"], [0], guidance=2.0).permute(0, 2, 3, 1).numpy() / 2 + 0.5
    np.testing.assert_allclose(drawn[0.0], plain, atol=1e-5)
    assert np.abs(drawn[1.0] - plain).max() > 1e-3


def test_moved_pictures_keep_their_form_and_have_a_white_ground() -> None:
    black = np.zeros((3, 64, 64, 3), np.uint8)
    changed = moving.moved(black, np.random.default_rng(0))
    assert changed.shape == black.shape
    assert (changed == 255).any(axis=(1, 2, 3)).all()
    assert len({each.tobytes() for each in changed}) == 3


@pytest.mark.usefixtures("store")
def test_the_upscaler_is_read_by_diffusers_and_draws_four_times_as_large(
    tmp_path: Path, pipe: StableDiffusionPipeline, pictures: PictureSet
) -> None:
    vae = new_vae(VaeSettings(channels=(8, 8, 8))).eval()
    rescale(vae, 0.08333)
    for steps, place in ((2, "parts"), (4, "parts"), (4, "whole")):
        settings = UpscalerSettings(unet=LITTLE, most_noise=5, loop=loop(steps))
        upscaler.train(settings, vae, pipe, pictures, tmp_path / place)
    ours, whole = (
        StableDiffusionUpscalePipeline.from_pretrained(tmp_path / name / "checkpoint") for name in ("parts", "whole")
    )
    assert_resumed(ours.unet, whole.unet)
    assert ours.vae.config.scaling_factor == 0.08333
    assert ours.config.max_noise_level == 5
    what = upscaler.held_out_small(pictures, 2)
    assert what.small.shape == (2, 32, 32, 3)
    drawn = upscaler.upscale(ours, what, steps=2, noise_level=5)
    ours.set_progress_bar_config(disable=True)
    theirs = ours(
        what.prompts[1],
        image=Image.fromarray(what.small[1]),
        num_inference_steps=2,
        guidance_scale=1.0,
        noise_level=5,
        generator=[torch.Generator().manual_seed(1)],
        output_type="np",
    ).images
    np.testing.assert_allclose((drawn[1:].permute(0, 2, 3, 1).numpy() + 1) / 2, theirs, atol=1e-4)
    with pytest.raises(ValueError, match="noise_level"):
        ours("thing", image=Image.fromarray(what.small[0]), noise_level=6)


def test_nothing_held_out_is_in_the_upscalers_set(pictures: PictureSet) -> None:
    vae = new_vae(VaeSettings(channels=(8, 8, 8))).eval()
    known = upscaler.small_set(vae, pictures)
    assert len(known.latents.pictures) == len(known.small) == 12
    assert not {pictures.pictures[i].label for i in pictures.held_out()} & {p.label for p in known.latents.pictures}
    torch.testing.assert_close(known.small[:6].flip(3), known.small[6:], rtol=0, atol=2 / 127)


def test_cached_prompts_are_what_the_text_encoder_says(pipe: StableDiffusionPipeline, pictures: PictureSet) -> None:
    prompts = Prompts(pipe, pictures.pictures[:3])
    pairs = ((0.0, "thing 2, 3d style"), (1.0, ""))
    for chance, text in pairs:
        ours = prompts.of(torch.tensor([2]), torch.Generator().manual_seed(0), chance)
        theirs, _ = pipe.encode_prompt(text, "cpu", 1, do_classifier_free_guidance=False)
        torch.testing.assert_close(ours, theirs)
