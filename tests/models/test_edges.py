"""The bundled edge adapter as a component: that it is whole, exact, and holds a picture as in diffusers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionAdapterPipeline, StableDiffusionPipeline, T2IAdapter
from PIL import Image, ImageDraw

from components.compatibility import compatible
from components.contract import Kind
from components.folder import ComponentFolder, read_manifest
from pipeline.adapter import Adapter
from pipeline.controls import ControlBy
from pipeline.text_to_image import TextToImage
from runtime.golden import require_golden
from runtime.session import Session
from runtime.settings import SessionSettings
from tests.differences import MOST_OFF, Measured

BUNDLE = Path(__file__).parents[2] / "models" / "emoji"
COMPONENT = BUNDLE / "adapter-edges"
CPU = SessionSettings(provider="cpu")
PROMPT = "a red apple, 3d style"


def edges() -> Image.Image:
    """The outline of a thing that is not where the denoiser would draw it."""
    outline = Image.new("L", (128, 128))
    ImageDraw.Draw(outline).ellipse((10, 40, 74, 104), outline=255)
    return outline


def test_it_is_whole_and_as_exact_as_when_it_was_exported_and_fits_the_bundle() -> None:
    folder = ComponentFolder.open(COMPONENT)
    folder.verify()
    assert folder.manifest.weights == "float16"
    assert compatible(folder.manifest.contract, read_manifest(BUNDLE / Kind.DENOISER).contract) == []
    require_golden(Session.open(folder, CPU), folder)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_it_holds_a_picture_as_in_diffusers(measured: Measured) -> None:
    parts = dict(StableDiffusionPipeline.from_pretrained(BUNDLE / "checkpoint").components)
    # it knows no encoder of pictures
    del parts["image_encoder"]
    adapter = T2IAdapter.from_pretrained(BUNDLE / "adapters" / "edges", torch_dtype=torch.float32)
    pipe = StableDiffusionAdapterPipeline(**parts, adapter=adapter, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    noise = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(7))
    theirs = pipe(
        PROMPT,
        image=edges(),
        latents=noise,
        num_inference_steps=15,
        guidance_scale=2.0,
        adapter_conditioning_scale=0.9,
        output_type="np",
    ).images[0]
    chain = TextToImage.load(BUNDLE, CPU)
    options: Any = {"noise": noise.numpy(), "steps": 15, "guidance": 2.0, "sampler": "ddim"}
    held = ControlBy(model=Adapter(ComponentFolder.open(COMPONENT), CPU), image=edges(), scale=0.9)
    ours = chain.generate(PROMPT, controls=[held], **options)
    assert measured.note("adapter", "emoji", type(pipe).__name__, ours, theirs) <= MOST_OFF
    plain = np.asarray(chain.generate(PROMPT, **options)).astype(float)
    assert np.abs(plain - np.asarray(ours)).mean() > 5, "the edges say nothing"
