"""A denoiser that looks at a picture in place of a prompt, against StableDiffusionImageVariationPipeline."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionImageVariationPipeline
from PIL import Image
from transformers import CLIPImageProcessor

from components.contract import PARTS, Kind
from components.folder import read_manifest
from exporters.adapter_files import TextualInversion
from exporters.bundle import BundleOptions, export_bundle
from exporters.edits import Edits
from exporters.errors import ExportError
from pipeline.errors import RequestError
from pipeline.tasks.table import TASKS, tasks_of
from pipeline.text_to_image import TextToImage
from tests.differences import MOST_OFF, Measured
from tests.exporters.conftest import FAMILIES, tiny_pipeline
from tests.exporters.seeing import CPU, export
from tests.exporters.vision import tiny_vision

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

SIDE, WIDTH = 16, 16


def reference() -> StableDiffusionImageVariationPipeline:
    plain = tiny_pipeline(FAMILIES["sd1"])
    pipe = StableDiffusionImageVariationPipeline(
        vae=plain.vae,
        image_encoder=tiny_vision(SIDE, WIDTH),
        unet=plain.unet,
        scheduler=DDIMScheduler.from_config(plain.scheduler.config, clip_sample=False),
        safety_checker=None,
        feature_extractor=CLIPImageProcessor(size=SIDE, crop_size=SIDE, image_mean=(0.4, 0.5, 0.6)),
        requires_safety_checker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(reference(), tmp_path_factory.mktemp("bundle"))


def picture(seed: int = 0) -> Image.Image:
    values: npt.NDArray[np.uint8] = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), np.uint8)
    return Image.fromarray(values).resize((50, 37))


@pytest.mark.parametrize("guidance", [4.0, 1.0])
def test_the_picture_is_that_of_diffusers(measured: Measured, bundle: Path, guidance: float) -> None:
    pipe = reference()
    # as the pipeline is handed to users: from a folder, where it sets no offset of timesteps either
    expected = pipe(
        picture(),
        height=48,
        width=40,
        num_inference_steps=6,
        guidance_scale=guidance,
        generator=torch.Generator("cpu").manual_seed(3),
        output_type="np",
    ).images[0]
    ours = TextToImage.load(bundle, CPU).generate(
        "", image_prompts=[picture()], steps=6, guidance=guidance, seed=3, sampler="ddim", width=40, height=48
    )
    assert measured.note("image_variation", "tiny sd1", type(pipe).__name__, ours, expected) <= MOST_OFF


def test_the_picture_is_looked_at(bundle: Path) -> None:
    chain = TextToImage.load(bundle, CPU)

    def drawn(*pictures: Image.Image) -> npt.NDArray[np.float64]:
        return np.asarray(chain.generate("", image_prompts=pictures, steps=3, guidance=9, seed=1)).astype(float)

    assert np.abs(drawn(picture()) - drawn(picture(1))).mean() > 0.1
    assert np.abs(drawn(picture()) - drawn(picture(), picture(1))).mean() > 0.1


def test_the_bundle_has_no_text_encoder(bundle: Path) -> None:
    assert {path.name for path in bundle.iterdir()} == {*PARTS, Kind.IMAGE_ENCODER} - {Kind.TEXT_ENCODER}
    contract = read_manifest(bundle / Kind.DENOISER).contract
    assert not contract.reads_texts
    assert [name for name, task in TASKS.items() if task.allowed(contract)] == ["image_variation"]
    assert tasks_of(contract) == ()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "image_prompts: is required, as this model draws by pictures alone"),
        ({"prompt": "a boat", "image_prompts": [picture()]}, "prompt: must be left out"),
        ({"negative_prompt": "blue", "image_prompts": [picture()]}, "negative_prompt: must be left out"),
        ({"image_prompts": [picture()], "image_prompt_scale": 0.5}, "image_prompt_scale=0.5: must be left out"),
        ({"image_prompts": [picture()] * 99}, "image_prompts='99 pictures': must be at most"),
    ],
    ids=["none", "prompt", "negative prompt", "scale", "too many"],
)
def test_requests_that_do_not_fit_are_refused_by_their_field(bundle: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(RequestError, match=said):
        TextToImage.load(bundle, CPU).generate(options.pop("prompt", ""), **options)


def test_new_words_are_for_text_encoders(bundle: Path, tmp_path: Path) -> None:
    word = TextualInversion(Path("word.safetensors"), "<word>", {})
    options = BundleOptions("tiny", edits=Edits(inversions=(word,)))
    with pytest.raises(ExportError, match=r"word.safetensors: is for one text encoder; checkpoint has none"):
        export_bundle(bundle.parent / "checkpoint", tmp_path / "out", options)
