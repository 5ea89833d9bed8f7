"""The measure of prompt fidelity, on pictures whose answer is known."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from training import evaluation
from training.latents import LatentSet
from training.pictures import Picture
from training.settings import VaeSettings
from training.vae import new_vae

pytestmark = pytest.mark.filterwarnings("ignore")
LABELS = tuple(f"thing {name}" for name in "abcdefghij")


class Drawn:
    """Stands in for a pipeline: only its VAE is asked for."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.vae = new_vae(VaeSettings(channels=(8, 8, 8, 8))).eval()


@pytest.fixture(scope="module")
def pixels() -> torch.Tensor:
    return torch.rand(len(LABELS), 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.fixture(scope="module")
def pipe() -> Drawn:
    return Drawn()


@pytest.fixture
def latents(pipe: Drawn, pixels: torch.Tensor) -> LatentSet:
    with torch.no_grad():
        mean = pipe.vae.encode(pixels).latent_dist.mean * pipe.vae.config.scaling_factor
    pictures = [Picture(str(n), label, (), "3d", True) for n, label in enumerate(LABELS)]
    return LatentSet(pictures, mean, torch.zeros_like(mean))


def measured(
    monkeypatch: pytest.MonkeyPatch, pipe: Drawn, latents: LatentSet, pixels: torch.Tensor, shift: int
) -> evaluation.Fidelity:
    """What is measured of a model that draws, for every caption, the picture `shift` further on."""

    def draw(_pipe: object, prompts: list[str], seeds: list[int], **_: object) -> torch.Tensor:
        assert set(seeds) == {0}
        which = [(LABELS.index(prompt.split(",")[0]) + shift) % len(LABELS) for prompt in prompts]
        return pixels[which]

    monkeypatch.setattr(evaluation, "draw", draw)
    monkeypatch.setattr(evaluation, "NEAREST", 1)
    return evaluation.fidelity(pipe, latents, guidance=3.0, count=len(LABELS))


def test_a_model_that_draws_what_is_asked_has_it_all(
    monkeypatch: pytest.MonkeyPatch, pipe: Drawn, latents: LatentSet, pixels: torch.Tensor
) -> None:
    found = measured(monkeypatch, pipe, latents, pixels, shift=0)
    assert (found.asked, found.shuffled) == (1.0, 0.0)


def test_a_model_that_draws_something_else_has_none(
    monkeypatch: pytest.MonkeyPatch, pipe: Drawn, latents: LatentSet, pixels: torch.Tensor
) -> None:
    assert measured(monkeypatch, pipe, latents, pixels, shift=3).asked == 0.0


def test_captions_are_fixed_and_of_different_labels(latents: LatentSet) -> None:
    doubled = [*latents.pictures, *(replace(picture, style="flat") for picture in latents.pictures)]
    chosen = evaluation.fixed_pictures(doubled, 8)
    assert chosen == evaluation.fixed_pictures(list(doubled), 8)
    assert len({picture.label for picture in chosen}) == 8


def test_nearest_means_latents_alike(pipe: Drawn, latents: LatentSet, pixels: torch.Tensor) -> None:
    blurred = pixels[:3] + 0.05 * torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    found = evaluation.nearest_labels(pipe.vae, blurred, latents)
    assert [labels[0] for labels in found] == list(LABELS[:3])
    assert np.shape(found) == (3, evaluation.NEAREST)
