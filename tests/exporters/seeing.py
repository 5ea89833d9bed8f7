"""Tiny denoisers that look at more than latents: exported, and drawn with as a gate draws."""

from pathlib import Path
from typing import Any

from components.contract import Kind
from components.folder import ComponentFolder
from exporters.bundle import BundleOptions, export_bundle
from pipeline.denoiser import Denoiser
from pipeline.text_encoder import TextEncoder
from pipeline.trial_pictures import prompt_latents
from runtime.settings import SessionSettings

CPU = SessionSettings(provider="cpu", threads=1)
PROMPT = "a red caf\u00e9"


def export(pipe: Any, folder: Path, guidance: float | None = None) -> Path:
    """The components of a pipeline of diffusers, with its weights as they are."""
    pipe.save_pretrained(folder / "checkpoint")
    export_bundle(folder / "checkpoint", folder / "bundle", BundleOptions("tiny", "float32", guidance=guidance))
    return folder / "bundle"


def assert_a_gate_draws(bundle: Path) -> None:
    encoder = TextEncoder(ComponentFolder.open(bundle / Kind.TEXT_ENCODER), CPU)
    denoiser = Denoiser(ComponentFolder.open(bundle / Kind.DENOISER), CPU)
    drawn = list(prompt_latents(encoder, denoiser, 2))
    assert len(drawn) == len({latents.tobytes() for latents in drawn}) == 4
