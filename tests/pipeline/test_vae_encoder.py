from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from diffusers.image_processor import VaeImageProcessor
from PIL import Image

from components.folder import ComponentFolder
from pipeline.errors import RequestError
from pipeline.vae_encoder import VaeEncoder
from runtime.settings import SessionSettings
from tests.pipeline.conftest import Networks


@pytest.fixture(scope="module")
def encoder(bundle: Path) -> VaeEncoder:
    return VaeEncoder(ComponentFolder.open(bundle / "vae_encoder"), SessionSettings(threads=1, provider="cpu"))


def test_it_gives_the_distribution_of_diffusers_input(encoder: VaeEncoder, networks: Networks) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 12, 20, 3), dtype=np.uint8)
    pixels.flags.writeable = False
    found = encoder.encode(pixels)
    seen = VaeImageProcessor(vae_scale_factor=2).preprocess([Image.fromarray(image) for image in pixels])
    mean, log_variance = networks.encode(seen).chunk(2, dim=1)
    torch.testing.assert_close(torch.from_numpy(found.mean), mean, atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.from_numpy(found.log_variance), log_variance, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("pixels", "words"),
    [
        (np.zeros((1, 12, 20, 3), np.float32), "float32"),
        (np.zeros((12, 20, 3), np.uint8), r"\[12, 20, 3\]"),
        (np.zeros((1, 12, 20, 4), np.uint8), r"\[1, 12, 20, 4\]"),
        (np.zeros((1, 12, 21, 3), np.uint8), "image='21x12': must be of sides that are multiples of 2"),
        (np.zeros((1, 0, 20, 3), np.uint8), "20x0"),
    ],
)
def test_what_is_no_picture_is_refused(encoder: VaeEncoder, pixels: npt.NDArray[Any], words: str) -> None:
    with pytest.raises(RequestError, match=words):
        encoder.encode(pixels)
