from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers.image_processor import VaeImageProcessor

from components.folder import ComponentFolder
from pipeline.vae_decoder import VaeDecoder
from runtime.errors import RuntimeFault
from runtime.settings import SessionSettings
from tests.pipeline.conftest import SPACE, Networks


@pytest.fixture(scope="module")
def decoder(bundle: Path) -> VaeDecoder:
    return VaeDecoder(ComponentFolder.open(bundle / "vae_decoder"), SessionSettings(threads=1, provider="cpu"))


def test_its_bytes_are_those_of_diffusers(decoder: VaeDecoder, networks: Networks) -> None:
    latents = np.random.default_rng(0).standard_normal((3, 4, 30, 20), np.float32) * np.float32(0.4)
    pixels = decoder.decode(latents)
    assert pixels.shape == (3, 60, 40, 3)
    assert pixels.dtype == np.uint8
    decoded = networks.decode(torch.from_numpy(latents) / SPACE.scaling_factor + SPACE.shift_factor)
    expected = np.stack([np.asarray(image) for image in VaeImageProcessor().postprocess(decoded, "pil")])
    assert (pixels != expected).mean() < 1e-3
    np.testing.assert_allclose(pixels.astype(np.int16), expected.astype(np.int16), atol=1)
    assert {0, 255} < set(pixels.ravel().tolist())


def test_it_leaves_its_input_as_it_is(decoder: VaeDecoder) -> None:
    latents = np.ones((1, 4, 8, 8), np.float32)
    latents.flags.writeable = False
    decoder.decode(latents)
    assert (latents == 1).all()


def test_latents_that_are_not_numbers_make_no_picture(decoder: VaeDecoder) -> None:
    latents = np.zeros((1, 4, 8, 8), np.float32)
    latents[0, 0, 0, 0] = np.nan
    with pytest.raises(RuntimeFault, match="not numbers"):
        decoder.decode(latents)


def test_latents_of_another_shape_are_named(decoder: VaeDecoder) -> None:
    with pytest.raises(RuntimeFault, match=r"latents: has shape \[1, 3, 8, 8\]"):
        decoder.decode(np.zeros((1, 3, 8, 8), np.float32))
