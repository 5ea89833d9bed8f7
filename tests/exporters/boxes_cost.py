"""`python -m tests.exporters.boxes_cost`: what boxes cost a denoiser, beside the same U-Net without gated attention."""

import sys
import time
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from components.contract import BOX_INPUTS, Kind
from components.folder import ComponentFolder
from runtime.feeds import Feeds
from runtime.session import Session
from tests.exporters.conftest import FAMILIES, tiny_pipeline
from tests.exporters.seeing import CPU, export
from tests.exporters.test_boxes import boxed

_TURNS, _ROWS, _SIDE, _BOXES = 25, 2, 32, 30
# large enough that attention is most of the work, as in SD 1.4
_UNET: dict[str, Any] = {
    "down_block_types": ("CrossAttnDownBlock2D",) * 2,
    "up_block_types": ("CrossAttnUpBlock2D",) * 2,
    "block_out_channels": (128, 256),
    "attention_head_dim": 8,
    "sample_size": _SIDE,
}


def main() -> None:
    """Print the median of the ratios of processor time, run in turns on one thread."""
    warnings.simplefilter("ignore")
    with TemporaryDirectory() as folder:
        plain, gated = (
            Session.open(ComponentFolder.open(export(pipe, Path(folder) / name) / Kind.DENOISER), CPU)
            for name, pipe in (("plain", tiny_pipeline(FAMILIES["sd1"], **_UNET)), ("gated", boxed(**_UNET)))
        )
    feeds, boxes = _feeds(plain.contract.conditioning[0].width)
    cases = {"plain": (plain, feeds), "left out": (gated, feeds), "boxes": (gated, {**feeds, **boxes})}
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(_TURNS):
        for name, (session, fed) in cases.items():
            began = time.process_time()
            session.run(fed)
            seconds[name].append(time.process_time() - began)
    for name, found in seconds.items():
        sys.stdout.write(f"{name}: {np.median(np.divide(found, seconds['plain'])):.2f}\n")


def _feeds(width: int) -> tuple[Feeds, Feeds]:
    rng = np.random.default_rng(0)
    shapes = ((_ROWS, _BOXES, 4), (_ROWS, _BOXES, width), (_ROWS, _BOXES), (_ROWS,))
    return {
        "latents": rng.standard_normal((_ROWS, 4, _SIDE, _SIDE), np.float32),
        "hidden_states": rng.standard_normal((_ROWS, 77, width), np.float32),
        "timestep": np.full(_ROWS, 500, np.float32),
    }, {name: np.ones(shape, np.float32) for name, shape in zip(BOX_INPUTS, shapes, strict=True)}


if __name__ == "__main__":
    main()
