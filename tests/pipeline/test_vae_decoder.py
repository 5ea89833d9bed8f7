from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers.image_processor import VaeImageProcessor
from hypothesis import given
from hypothesis import strategies as st

from components.contract import Kind
from components.folder import ComponentFolder
from pipeline.vae_decoder import PictureFault, VaeDecoder, fault_of
from runtime.errors import RuntimeFault
from runtime.settings import SessionSettings
from tests.pipeline.conftest import CONTRACTS, SPACE, Networks, write_component


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


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_latents_that_are_not_finite_make_no_picture(decoder: VaeDecoder, value: float) -> None:
    latents = np.zeros((1, 4, 8, 8), np.float32)
    latents[0, 0, 0, 0] = value
    with pytest.raises(RuntimeFault, match="pixels that are not finite"):
        decoder.decode(latents)
    decoded = decoder.decode_each(latents)
    assert decoded.faults == (PictureFault.NON_FINITE,)
    assert not decoded.pixels.any()


@pytest.mark.parametrize("bad", [0, 1, 2])
def test_only_the_picture_that_is_none_is_none(decoder: VaeDecoder, bad: int) -> None:
    latents = np.random.default_rng(1).standard_normal((3, 4, 10, 6), np.float32)
    alone = decoder.decode(latents)
    damaged = latents.copy()
    damaged[bad, 2, 5, 3] = np.nan
    decoded = decoder.decode_each(damaged)
    assert decoded.faults == tuple(PictureFault.NON_FINITE if row == bad else None for row in range(3))
    for row in {0, 1, 2} - {bad}:
        np.testing.assert_array_equal(decoded.pixels[row], alone[row])


def opened(folder: Path, networks: Networks, weight: float) -> VaeDecoder:
    """A decoder each of whose weights is `weight`."""
    changed = Networks({**networks.weights, "up": np.full_like(networks.weights["up"], weight)})
    write_component(folder, CONTRACTS[Kind.VAE_DECODER], changed)
    return VaeDecoder(ComponentFolder.open(folder), SessionSettings(threads=1, provider="cpu"))


@pytest.mark.parametrize(
    ("weight", "fault"),
    [
        (np.nan, PictureFault.NON_FINITE),
        (np.inf, PictureFault.NON_FINITE),
        (3e38, PictureFault.NON_FINITE),
        (0.0, PictureFault.CONSTANT),
        # other numbers for every pixel, and all of them white, or all of one byte
        (1e4, PictureFault.CONSTANT),
        (1e-7, PictureFault.CONSTANT),
        (0.05, None),
    ],
)
def test_damaged_weights_are_found_out(
    tmp_path: Path, networks: Networks, weight: float, fault: PictureFault | None
) -> None:
    decoder = opened(tmp_path / "damaged", networks, weight)
    latents = np.random.default_rng(2).uniform(0.5, 1.5, (2, 4, 8, 8)).astype(np.float32)
    decoded = decoder.decode_each(latents)
    assert decoded.faults == (fault, fault)
    expected = torch.nn.functional.conv_transpose2d(
        torch.from_numpy(latents) / SPACE.scaling_factor + SPACE.shift_factor,
        torch.full((4, 3, 2, 2), weight),
        stride=2,
    )
    assert torch.isfinite(expected).all().item() == (fault != PictureFault.NON_FINITE)


@given(
    height=st.integers(1, 5),
    width=st.integers(1, 5),
    fill=st.tuples(*[st.integers(0, 255)] * 3),
    place=st.integers(0, 74),
    by=st.integers(0, 255),
)
def test_a_picture_is_constant_unless_a_pixel_differs(
    height: int, width: int, fill: tuple[int, int, int], place: int, by: int
) -> None:
    pixels = np.tile(np.array(fill, np.uint8), (height, width, 1))
    pixels.reshape(-1)[place % pixels.size] ^= np.uint8(by)
    same = len({tuple(pixel) for pixel in pixels.reshape(-1, 3).tolist()}) == 1
    assert (fault_of(pixels, finite=True) is PictureFault.CONSTANT) == same


def test_latents_of_another_shape_are_named(decoder: VaeDecoder) -> None:
    with pytest.raises(RuntimeFault, match=r"latents: has shape \[1, 3, 8, 8\]"):
        decoder.decode(np.zeros((1, 3, 8, 8), np.float32))
