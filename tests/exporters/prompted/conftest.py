"""One tiny checkpoint, exported once with everything that a request may bring beside its texts."""

from pathlib import Path
from typing import Any

import pytest
from diffusers import DDIMScheduler, StableDiffusionPipeline
from transformers import CLIPImageProcessor

from components.contract import Kind
from exporters.bundle import BundleOptions, export_bundle
from exporters.image_encoder import export_image_encoder
from exporters.image_prompt import ImagePromptAdapter
from tests.exporters.adapters import rounded_to_half, save_image_adapter
from tests.exporters.conftest import saved_pipeline
from tests.exporters.vision import tiny_vision

# of the pictures that the image encoder takes, and of what it makes of one
SIDE, PROJECTION = 16, 12


@pytest.fixture(scope="session")
def plain_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved_pipeline("sd1", tmp_path_factory.mktemp("prompted") / "sd1")


@pytest.fixture(scope="session")
def vision(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP image encoder, with its preprocessing."""
    path: Path = tmp_path_factory.mktemp("vision") / "image_encoder"
    tiny_vision(SIDE, PROJECTION).save_pretrained(path)
    CLIPImageProcessor(size=SIDE, crop_size=SIDE).save_pretrained(path)
    return path


@pytest.fixture(scope="session")
def image_adapter(plain_checkpoint: Path) -> Path:
    path = plain_checkpoint.parent / "ip-adapter.safetensors"
    return save_image_adapter(path, their_pipeline(plain_checkpoint).unet, PROJECTION)


@pytest.fixture(scope="session")
def prompted(
    plain_checkpoint: Path, vision: Path, image_adapter: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The bundle."""
    out = tmp_path_factory.mktemp("prompted_bundle") / "out"
    adapter = ImagePromptAdapter.read(image_adapter)
    export_bundle(plain_checkpoint, out, BundleOptions("prompted", lora_inputs=True, image_prompt=adapter))
    export_image_encoder(vision, image_adapter, out / Kind.DENOISER, out / Kind.IMAGE_ENCODER)
    return out


def their_pipeline(checkpoint: Path) -> Any:
    """The checkpoint in diffusers, of the weights that components hold."""
    pipe = StableDiffusionPipeline.from_pretrained(checkpoint)
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config, clip_sample=False)
    pipe.set_progress_bar_config(disable=True)
    return rounded_to_half(pipe)
