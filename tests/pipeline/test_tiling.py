"""Tiles of a large picture: laid into each other as AutoencoderKL of diffusers does it, by the same networks."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from diffusers import AutoencoderKL
from PIL import Image

from components.folder import ComponentFolder
from components.messages import FloatArray, Tiling
from diffusion.latents import from_model
from pipeline.tiling import Grid, in_tiles
from pipeline.vae_decoder import VaeDecoder
from pipeline.vae_encoder import VaeEncoder
from runtime.settings import SessionSettings

ROOT = Path(__file__).parents[2]
BUNDLE = ROOT / "models" / "emoji"
DOWNSCALE = 4
# a side of 64 pixels is 16 latents, which lie over each other by 4 of them
TILING = Tiling(side=64, overlap=0.25)
# width and height in latents: such as divide and such as do not, narrow ones, and one whose last tile is a single line
SIZES = [(28, 40), (29, 27), (16, 50), (3, 41), (37, 17), (25, 25)]


@pytest.fixture(scope="module")
def vae() -> AutoencoderKL:
    torch.manual_seed(0)
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(8, 8, 16),
        latent_channels=4,
        norm_num_groups=4,
        sample_size=64,
    ).eval()


def tiled_as(vae: AutoencoderKL, tiling: Tiling, downscale: int = DOWNSCALE) -> AutoencoderKL:
    vae.enable_tiling()
    vae.tile_sample_min_size, vae.tile_overlap_factor = tiling.side, tiling.overlap
    vae.tile_latent_min_size = tiling.side // downscale
    return vae


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("tiling", [TILING, Tiling(side=64, overlap=0.5), Tiling(side=64, overlap=0)], ids=str)
def test_decoding_in_tiles_is_that_of_diffusers(vae: AutoencoderKL, tiling: Tiling, width: int, height: int) -> None:
    latents = torch.randn(2, 4, height, width, generator=torch.Generator().manual_seed(0))
    shapes = []

    def run(tiles: npt.NDArray[Any]) -> FloatArray:
        shapes.append(tiles.shape)
        with torch.no_grad():
            made: FloatArray = vae.decoder(vae.post_quant_conv(torch.from_numpy(tiles))).numpy()
        return made

    found = in_tiles(run, latents.numpy(), tiling, DOWNSCALE, 1)
    with torch.no_grad():
        expected = tiled_as(vae, tiling).tiled_decode(latents).sample.numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert found.dtype == np.float32
    assert max(shape[2] for shape in shapes) <= 16 >= max(shape[3] for shape in shapes)


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_encoding_in_tiles_is_that_of_diffusers(vae: AutoencoderKL, width: int, height: int) -> None:
    pixels = torch.rand(2, 3, height * 4, width * 4, generator=torch.Generator().manual_seed(0)) * 2 - 1

    def run(tiles: npt.NDArray[Any]) -> FloatArray:
        with torch.no_grad():
            made: FloatArray = vae.quant_conv(vae.encoder(torch.from_numpy(tiles))).numpy()
        return made

    found = in_tiles(run, pixels.numpy(), TILING, DOWNSCALE, DOWNSCALE)
    with torch.no_grad():
        expected = tiled_as(vae, TILING)._tiled_encode(pixels).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_network_of_nothing_gives_back_what_it_is_given() -> None:
    values = np.random.default_rng(0).standard_normal((2, 3, 37, 41)).astype(np.float32)
    np.testing.assert_allclose(in_tiles(np.copy, values, TILING, 1, 1), values, atol=1e-6)


@pytest.mark.parametrize(
    ("tiling", "downscale", "side", "stride"),
    [
        (Tiling(side=512, overlap=0.25), 8, 64, 48),
        (Tiling(side=64, overlap=0.1), 8, 8, 7),
        (Tiling(side=64, overlap=0.5), 64, 1, 1),
        # latents that are larger than a tile
        (Tiling(side=64, overlap=0), 128, 1, 1),
    ],
)
def test_a_tile_has_a_latent_at_least_and_the_next_one_lies_further(
    tiling: Tiling, downscale: int, side: int, stride: int
) -> None:
    assert Grid.of(tiling, downscale) == Grid(side, stride)


def test_tiles_cover_every_latent_and_none_lies_outside() -> None:
    seen = np.zeros((29, 50), np.int_)
    for rows, columns in Grid.of(TILING, DOWNSCALE).cells(29, 50):
        assert rows.stop <= 29
        assert columns.stop <= 50
        seen[rows, columns] += 1
    assert seen.min() == 1
    assert seen.max() == 4


@pytest.mark.parametrize(("side", "batch", "most"), [(64, 1, 64), (128, 1, 16), (128, 2, 8), (512, 1, 1), (1024, 1, 1)])
def test_tiles_of_one_shape_share_a_run_up_to_512x512_pixels(side: int, batch: int, most: int) -> None:
    runs = []

    def run(tiles: npt.NDArray[Any]) -> FloatArray:
        runs.append(tiles.shape)
        return tiles.astype(np.float32)

    # in each of two rows, of which the second is lower, more than share a run and one that is narrower
    tiling, stride = Tiling(side=side, overlap=0.5), side // 2
    in_tiles(run, np.zeros((batch, 1, side, stride * (most + 3)), np.uint8), tiling, 1, 1)
    together = [most, 2] if most > 1 else [1, 1, 1]
    assert [shape[0] for shape in runs] == 2 * [*(batch * tiles for tiles in together), batch]
    assert [shape[2:] for shape in runs] == [
        shape for height in (side, stride) for shape in (*[(height, side)] * len(together), (height, stride))
    ]


def test_the_bundled_model_decodes_and_encodes_in_tiles_as_diffusers_does() -> None:
    settings = SessionSettings(provider="cpu", threads=1)
    vae = AutoencoderKL.from_pretrained(BUNDLE / "checkpoint" / "vae").eval()
    decoder = VaeDecoder(ComponentFolder.open(BUNDLE / "vae_decoder"), settings)
    encoder = VaeEncoder(ComponentFolder.open(BUNDLE / "vae_encoder"), settings)
    downscale = decoder.space.downscale
    with Image.open(ROOT / "docs" / "apple.png") as image:
        pixels = np.asarray(image.convert("RGB").resize((136, 120)))[np.newaxis]
    tiled_as(vae, TILING, downscale)
    seen = torch.from_numpy(pixels.transpose(0, 3, 1, 2) / np.float32(127.5) - 1)
    with torch.no_grad():
        mean, log_variance = vae._tiled_encode(seen).chunk(2, dim=1)
    found = encoder.encode(pixels, TILING)
    np.testing.assert_allclose(found.mean, mean.numpy(), atol=1e-3)
    np.testing.assert_allclose(found.log_variance, log_variance.numpy(), atol=1e-3)
    latents = (mean.numpy() - decoder.space.shift_factor) * np.float32(decoder.space.scaling_factor)
    with torch.no_grad():
        scaled = torch.from_numpy(from_model(latents, decoder.space.scaling_factor, decoder.space.shift_factor))
        theirs = vae.tiled_decode(scaled).sample.numpy()
    expected = np.rint((theirs[0].transpose(1, 2, 0) / 2 + 0.5).clip(0, 1) * 255)
    tiled, whole = decoder.decode(latents, TILING)[0].astype(np.int16), decoder.decode(latents)[0].astype(np.int16)
    assert np.abs(tiled - expected).max() <= 1
    assert np.abs(tiled - expected).mean() < 0.01
    assert (tiled != whole).any(), "the tiling would have done nothing"
