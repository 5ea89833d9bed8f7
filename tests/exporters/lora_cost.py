"""`python -m tests.exporters.lora_cost CHECKPOINT`: what a denoiser's inputs for LoRAs cost, left out and used."""

import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from components.lora import adapted_layers, lora_specs
from components.manifest import Origin
from exporters.checkpoint import Checkpoint
from exporters.component import write_component
from exporters.denoiser import UnetInputs, denoiser
from exporters.preview import fit_preview
from exporters.text_encoder import text_encoder
from exporters.vae import latent_space
from runtime.feeds import Feeds, zero_feeds
from runtime.session import Session
from runtime.settings import SessionSettings

_RUNS = 40
_WARM_UP = 3
_RANKS = (4, 16, 64)


def opened(path: Path, into: Path) -> tuple[Session, Session]:
    """The denoiser without the inputs, and with them."""
    checkpoint = Checkpoint.open(path)
    vae = checkpoint.vae()
    space = latent_space(vae, "any")
    preview, settings = fit_preview(vae, space), SessionSettings(provider="cpu", threads=1)
    conditioning = text_encoder(checkpoint).contract.conditioning
    plain, adapted = (
        Session.open(
            write_component(
                denoiser(checkpoint, space, conditioning, preview, more=UnetInputs(loras=inputs)),
                into / str(inputs),
                "float16",
                Origin(source=path.name, exporter={}),
            ),
            settings,
        )
        for inputs in (False, True)
    )
    return plain, adapted


def loras(session: Session, rows: int, rank: int) -> Feeds:
    generator = np.random.default_rng(0)
    return {
        spec.name: generator.standard_normal((rows, *map(int, spec.shape[1:])), np.float32) * np.float32(0.01)
        for layer, (taken, given) in adapted_layers(session.contract.inputs).items()
        for spec in lora_specs(layer, taken, given, batch=rows, rank=rank)
    }


def compare(plain: Session, adapted: Session, rows: int) -> str:
    generator = np.random.default_rng(1)
    feeds = {
        name: generator.standard_normal((rows, *zeros.shape[1:]), np.float32)
        for name, zeros in zero_feeds(plain.contract).items()
    }
    cases: dict[str, tuple[Session, Feeds]] = {"without": (plain, feeds), "left out": (adapted, feeds)}
    cases |= {f"rank {rank}": (adapted, {**feeds, **loras(adapted, rows, rank)}) for rank in _RANKS}
    taken: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(_WARM_UP + _RUNS):
        for name, (session, given) in cases.items():
            # of the process: what else the machine does is not counted
            begun = time.process_time()
            session.run(given)
            taken[name].append(time.process_time() - begun)
    base = taken["without"][_WARM_UP:]
    ratios = {
        name: statistics.median(one / other for one, other in zip(times[_WARM_UP:], base, strict=True))
        for name, times in taken.items()
    }
    return ", ".join(f"{name} {ratio:.3f}" for name, ratio in ratios.items())


def main(path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        sessions = opened(path, Path(folder))
        for rows in (2, 8):
            print(f"{rows} rows: {compare(*sessions, rows)}")  # noqa: T201 - what it is for


if __name__ == "__main__":
    main(Path(sys.argv[1]))
