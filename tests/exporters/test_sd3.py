"""SD 3.5's transformer, exported: what it draws, against diffusers."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusion3Img2ImgPipeline, StableDiffusion3Pipeline
from PIL import Image

from components.contract import PARTS, Kind
from exporters.bundle import BundleOptions, export_bundle
from exporters.checkpoint import Checkpoint
from exporters.errors import ExportError
from pipeline.bundle import open_bundle
from pipeline.errors import RequestError
from pipeline.image_to_image import ImageToImage
from pipeline.text_to_image import TextToImage
from runtime.settings import SessionSettings
from tests.differences import MOST_OFF, Measured
from tests.exporters.sd3 import tiny_sd3
from tests.exporters.test_checkpoint import rewrite
from tests.exporters.test_sdxl import quiet

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
CPU = SessionSettings(provider="cpu")
PROMPT = "a red caf\u00e9!! red"
PICTURE = Image.fromarray(np.random.default_rng(3).integers(0, 256, (40, 32, 3), np.uint8))


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("sd3") / "sd3"
    tiny_sd3().save_pretrained(path)
    return path


@pytest.fixture(scope="session")
def exported(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out: Path = tmp_path_factory.mktemp("sd3-bundle") / "sd3"
    # in float32, so that diffusers can draw with the folder as it is
    export_bundle(folder, out, BundleOptions("sd3", "float32"))
    return out


@pytest.fixture(scope="session")
def pipe(folder: Path) -> Any:
    return quiet(StableDiffusion3Pipeline.from_pretrained(folder, text_encoder_3=None, tokenizer_3=None))


def test_the_contract_says_how_large_latents_may_be(exported: Path) -> None:
    contract = open_bundle(exported, PARTS)[Kind.DENOISER].manifest.contract
    assert contract.latent_limit == 48
    assert contract.flow_schedule is not None
    assert contract.flow_schedule.shift == 3.0
    with pytest.raises(RequestError, match="height=98: must be a whole number between 32 and 96"):
        TextToImage.load(exported, CPU).generate(PROMPT, height=98)


@pytest.mark.parametrize(("guidance", "negative"), [(4.0, "blue"), (4.0, ""), (1.0, "")])
def test_the_picture_is_that_of_diffusers(
    measured: Measured, pipe: Any, exported: Path, guidance: float, negative: str
) -> None:
    noise = torch.randn(1, 16, 20, 16, generator=torch.Generator().manual_seed(5))
    expected = pipe(
        PROMPT,
        negative_prompt=negative,
        latents=noise,
        height=40,
        width=32,
        num_inference_steps=6,
        guidance_scale=guidance,
        output_type="np",
    ).images[0]
    image = TextToImage.load(exported, CPU).generate(
        PROMPT, negative_prompt=negative, noise=noise.numpy(), height=40, width=32, steps=6, guidance=guidance
    )
    assert measured.note("text_to_image", "tiny SD 3.5", "StableDiffusion3Pipeline", image, expected) <= MOST_OFF


def test_a_picture_is_changed_as_in_diffusers(measured: Measured, pipe: Any, exported: Path) -> None:
    changing = quiet(StableDiffusion3Img2ImgPipeline(**pipe.components))
    options: Any = {"strength": 0.6, "height": PICTURE.height, "width": PICTURE.width}
    expected = changing(
        PROMPT,
        image=PICTURE,
        num_inference_steps=10,
        guidance_scale=4.0,
        generator=torch.Generator().manual_seed(7),
        output_type="np",
        **options,
    ).images[0]
    image = ImageToImage.load(exported, CPU).generate(PROMPT, PICTURE, steps=10, guidance=4.0, seed=7, **options)
    reference = "StableDiffusion3Img2ImgPipeline"
    assert measured.note("image_to_image", "tiny SD 3.5", reference, image, expected) <= MOST_OFF


def test_t5_is_left_out_where_that_is_asked_for(folder: Path, tmp_path: Path) -> None:
    with_t5 = Path(shutil.copytree(folder, tmp_path / "copy"))
    rewrite("model_index.json", text_encoder_3=["transformers", "T5EncoderModel"])(with_t5)
    with pytest.raises(ExportError, match="text_encoder_3: is T5EncoderModel, which cannot be exported; --without-t5"):
        Checkpoint.open(with_t5)
    assert Checkpoint.open(with_t5, without_t5=True).has_transformer
