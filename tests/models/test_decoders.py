"""The bundled small decoders: that they are whole, fit the denoiser, and draw what diffusers and the VAE draw."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderTiny, StableDiffusionPipeline

from components.compatibility import compatible
from components.contract import PARTS, Kind
from components.folder import ComponentFolder
from pipeline.bundle import open_bundle
from runtime.golden import require_golden
from runtime.session import Session
from runtime.settings import SessionSettings

BUNDLE = Path(__file__).parents[2] / "models" / "emoji"
CPU = SessionSettings(provider="cpu")
MB = 10**6
COMPONENTS = {"small": BUNDLE / "vae_decoder-small", "preview": BUNDLE / "preview_decoder"}
KINDS = {"small": Kind.VAE_DECODER, "preview": Kind.PREVIEW_DECODER}
# mean PSNR in dB of drawn pictures to the VAE's own
CLOSE = {"small": 28.0, "preview": 27.0}
PROMPTS = ["a red apple, 3d style", "cat, flat style", "rocket, 3d style", "pizza, flat style"]
# torch, diffusers and transformers warn of packages that are not there and of their own deprecations
QUIET = pytest.mark.filterwarnings("ignore")
each = pytest.mark.parametrize("name", COMPONENTS)

Array = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def drawn() -> torch.Tensor:
    """Latents in the denoiser's scale, at the end of whole walks by diffusers."""
    pipe = StableDiffusionPipeline.from_pretrained(BUNDLE / "checkpoint")
    pipe.set_progress_bar_config(disable=True)
    noise = torch.randn(len(PROMPTS), 4, 16, 16, generator=torch.Generator().manual_seed(7))
    walked = pipe(PROMPTS, latents=noise, num_inference_steps=15, guidance_scale=2.0, output_type="latent").images
    assert isinstance(walked, torch.Tensor)
    return walked


def decoded(name: str, scaled: torch.Tensor) -> Array:
    """Pixels in [-1, 1] that a component makes of latents in the denoiser's scale."""
    folder = ComponentFolder.open(COMPONENTS[name])
    space = folder.manifest.contract.latent_space
    assert space is not None
    latents = scaled.numpy() / np.float32(space.scaling_factor) + np.float32(space.shift_factor)
    pixels: Array = np.clip(Session.open(folder, CPU).run({"latents": latents})["pixels"], -1, 1)
    return pixels


@each
def test_it_is_whole_small_and_as_exact_as_when_it_was_exported(name: str) -> None:
    folder = ComponentFolder.open(COMPONENTS[name])
    folder.verify()
    assert folder.manifest.weights == "float16"
    require_golden(Session.open(folder, CPU), folder)
    files = [file for place in (COMPONENTS[name], BUNDLE / "decoders" / name) for file in place.rglob("*")]
    assert sum(file.stat().st_size for file in files) < 3 * MB


@each
def test_it_fits_the_bundle_in_the_place_of_the_vaes_own(name: str) -> None:
    contract = ComponentFolder.open(COMPONENTS[name]).manifest.contract
    assert contract.kind == KINDS[name]
    bundle = {kind: folder.manifest.contract for kind, folder in open_bundle(BUNDLE, PARTS).items()}
    for other in bundle.values():
        assert compatible(contract, other) == []
    own = bundle[Kind.VAE_DECODER]
    assert contract.model_copy(update={"kind": own.kind}) == own


def test_each_is_smaller_than_the_one_before() -> None:
    own, small, preview = (
        (folder / "model.onnx.data").stat().st_size
        for folder in (BUNDLE / Kind.VAE_DECODER, COMPONENTS["small"], COMPONENTS["preview"])
    )
    assert own > 2 * small > 4 * preview


@pytest.mark.slow
@QUIET
@each
def test_it_draws_what_diffusers_draws_with_its_checkpoint(name: str, drawn: torch.Tensor) -> None:
    theirs = AutoencoderTiny.from_pretrained(BUNDLE / "decoders" / name)
    with torch.no_grad():
        expected = theirs.decode(drawn).sample.clamp(-1, 1).numpy()
    np.testing.assert_allclose(decoded(name, drawn), expected, atol=1e-3)


@pytest.mark.slow
@QUIET
@each
def test_its_pictures_are_close_to_those_of_the_vae(name: str, drawn: torch.Tensor) -> None:
    vae = AutoencoderKL.from_pretrained(BUNDLE / "checkpoint" / "vae")
    with torch.no_grad():
        expected = vae.decode(drawn / vae.config.scaling_factor).sample.clamp(-1, 1).numpy()
    squared = np.square(decoded(name, drawn) - expected).mean(axis=(1, 2, 3))
    assert np.mean(-10 * np.log10(squared / 4)) > CLOSE[name]
    # latents of other pictures are far off: the bar is none that anything passes
    assert np.mean(-10 * np.log10(np.square(decoded(name, drawn.roll(1, 0)) - expected).mean() / 4)) < CLOSE[name] - 10
