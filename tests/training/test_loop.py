import shutil
from collections.abc import Mapping
from pathlib import Path

import mlflow
import pytest
import torch
from diffusers.models.resnet import ResnetBlock2D
from PIL import Image
from torch import Tensor, nn

from training.loop import Loop, compile_blocks
from training.settings import LoopSettings, VaeSettings
from training.vae import new_vae


class Line:
    """Fits a straight line: small enough to train in a test."""

    name = "line"

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.module: nn.Module = nn.Linear(2, 1)

    def losses(self, generator: torch.Generator, batch: int) -> Mapping[str, Tensor]:
        x = torch.randn(batch, 2, generator=generator)
        return {"loss": (self.module(x) - x.sum(1, keepdim=True) - 3).square().mean()}

    def sample(self, averaged: nn.Module) -> Image.Image:
        assert averaged is not self.module
        return Image.new("RGB", (4, 4))


def settings(steps: int) -> LoopSettings:
    return LoopSettings(
        steps=steps, batch=16, learning_rate=0.05, warmup=5, compile=False, log_every=10, save_every=10, sample_every=20
    )


@pytest.fixture
def store(tmp_path: Path) -> None:
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'mlflow.db'}")
    mlflow.create_experiment("training", artifact_location=(tmp_path / "mlruns").as_uri())


@pytest.mark.slow
@pytest.mark.usefixtures("store")
def test_a_resumed_run_ends_where_an_uninterrupted_one_ends(tmp_path: Path) -> None:
    whole = Loop(Line(), settings(40), tmp_path / "whole")
    whole.run(settings(40))
    Loop(Line(), settings(20), tmp_path / "parts").run(settings(20))
    resumed = Loop(Line(), settings(40), tmp_path / "parts")
    resumed.run(settings(40))
    for ours, theirs in zip(resumed.averaged.parameters(), whole.averaged.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
    assert len(mlflow.search_runs(experiment_names=["training"])) == 2


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
def test_compiled_blocks_have_the_gradients_of_eager_ones() -> None:
    torch.manual_seed(0)
    vae = new_vae(VaeSettings(channels=(8, 8)))
    assert any(isinstance(block, ResnetBlock2D) for block in vae.modules())
    pixels = torch.randn(2, 3, 16, 16)

    def gradients() -> list[Tensor]:
        vae.zero_grad()
        (vae.decode(vae.encode(pixels).latent_dist.mean).sample - pixels).square().mean().backward()
        return [parameter.grad.clone() for parameter in vae.parameters()]

    eager = gradients()
    compile_blocks(vae)
    for ours, theirs in zip(gradients(), eager, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)
