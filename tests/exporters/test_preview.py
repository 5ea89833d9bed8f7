"""The projection of latents to RGB, fitted to a VAE."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from PIL import Image
from torch import Tensor
from torch.nn.functional import avg_pool2d

from components.contract import Kind, LatentSpace
from components.folder import ComponentFolder
from diffusion.preview import project
from exporters.errors import ExportError
from exporters.preview import fit_preview
from exporters.vae import latent_space

ROOT = Path(__file__).parents[2]
SPACE = LatentSpace(id="test", channels=3, downscale=4, scaling_factor=0.5, shift_factor=0.2)


@pytest.fixture(scope="module")
def emoji_vae() -> AutoencoderKL:
    path = ROOT / "models" / "emoji" / "checkpoint" / "vae"
    return AutoencoderKL.from_pretrained(path, torch_dtype=torch.float32).eval()


def test_a_vae_that_is_a_projection_is_found() -> None:
    factors = torch.tensor([[0.1, -0.2, 0.05], [0.0, 0.1, 0.2], [0.15, 0.03, -0.1]])
    bias = torch.tensor([0.1, -0.05, 0.0])

    def decode(latents: Tensor, return_dict: bool) -> tuple[Tensor]:
        assert not return_dict
        model = (latents - SPACE.shift_factor) * SPACE.scaling_factor
        rgb = torch.einsum("bchw,cr->brhw", model, factors) + bias[:, None, None]
        # a texture that averages out over a latent pixel
        texture = torch.tensor([[0.02, -0.02], [-0.02, 0.02]]).repeat(2 * rgb.shape[2], 2 * rgb.shape[3])
        return (rgb.repeat_interleave(4, 2).repeat_interleave(4, 3) + texture,)

    found = fit_preview(SimpleNamespace(decode=decode), SPACE)
    np.testing.assert_allclose(found.factors, factors, atol=1e-3)
    np.testing.assert_allclose(found.bias, bias, atol=1e-3)


def test_a_vae_that_decodes_to_nothing_is_refused() -> None:
    def decode(latents: Tensor, return_dict: bool) -> tuple[Tensor]:  # noqa: ARG001 - as diffusers'
        return (torch.full((len(latents), 3, 64, 64), torch.nan),)

    with pytest.raises(ExportError, match="vae: decodes standard normal latents to values that are not finite"):
        fit_preview(SimpleNamespace(decode=decode), SPACE)


@pytest.mark.slow
def test_the_bundled_denoiser_has_what_an_export_would_write(emoji_vae: AutoencoderKL) -> None:
    contract = ComponentFolder.open(ROOT / "models" / "emoji" / Kind.DENOISER).manifest.contract
    fitted = fit_preview(emoji_vae, latent_space(emoji_vae, "emoji"))
    assert contract.preview is not None
    # another processor's last bits may turn a rounding
    np.testing.assert_allclose(contract.preview.factors, fitted.factors, atol=1.5e-4)
    np.testing.assert_allclose(contract.preview.bias, fitted.bias, atol=1.5e-4)


@pytest.mark.slow
@torch.no_grad()
def test_a_preview_looks_like_the_picture(emoji_vae: AutoencoderKL) -> None:
    picture = torch.from_numpy(np.asarray(Image.open(ROOT / "docs" / "apple.png").convert("RGB"), dtype=np.float32))
    pixels = picture.permute(2, 0, 1)[None] / 127.5 - 1
    latents = emoji_vae.encode(pixels).latent_dist.mean * emoji_vae.config.scaling_factor
    fitted = fit_preview(emoji_vae, latent_space(emoji_vae, "emoji"))
    preview = project(latents.numpy(), fitted.factors, fitted.bias)[0]
    small = avg_pool2d(picture.permute(2, 0, 1), 8).permute(1, 2, 0).numpy()
    error = float(np.mean(np.square((preview - small) / 255)))
    assert -10 * np.log10(error) > 16
