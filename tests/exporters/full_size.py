"""`python -m tests.exporters.full_size FAMILY DIR`: a checkpoint of random weights in a published geometry.

FAMILY is one of `exporters.families`, such as sd1, sdxl or sd3.5-medium; T5 is left out. With `--check BUNDLE` instead,
the seconds of one evaluation of each component and how far it is from torch's of the same weights.
"""

import gc
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, SD3Transformer2DModel, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from components.contract import PARTS
from components.folder import ComponentFolder
from exporters.clip_vocabulary import clip_tokenizer
from exporters.families import FAMILIES, Part
from runtime.session import Session
from runtime.settings import SessionSettings

_TEXTS = {network.__name__: network for network in (CLIPTextModel, CLIPTextModelWithProjection)}
_OTHERS = {network.__name__: network for network in (AutoencoderKL, SD3Transformer2DModel, UNet2DConditionModel)}


def main(family: str, out: Path) -> None:
    torch.manual_seed(0)
    described = FAMILIES[family]
    parts = {name: part for name, part in described.parts.items() if name != "text_encoder_3"}
    index: dict[str, object] = {"_class_name": described.pipeline}
    for name, part in parts.items():
        _save(part, out / name)
        gc.collect()
        index[name] = ["transformers" if part.network in _TEXTS else "diffusers", part.network]
    for name, padding in described.tokenizers.items():
        assert isinstance(padding, str), "those of a family are CLIP's"
        clip_tokenizer(padding).save_pretrained(out / name)
        index[name] = ["transformers", "CLIPTokenizer"]
    scheduler = json.loads(described.scheduler.read_text())
    (out / "scheduler").mkdir()
    (out / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler))
    (out / "model_index.json").write_text(json.dumps(index))


def _save(part: Part, folder: Path) -> None:
    """One network at a time, and stored as float16, as such files are."""
    if part.network in _TEXTS:
        network = _TEXTS[part.network](CLIPTextConfig.from_pretrained(part.config))
    else:
        config = {**json.loads((part.config / "config.json").read_text()), **part.changes}
        network = _OTHERS[part.network].from_config(config)
    network.half().save_pretrained(folder)


def check(bundle: Path) -> None:
    """Of the first golden case, which is of the network's own size."""
    for kind in PARTS:
        folder = ComponentFolder.open(bundle / kind)
        session = Session.open(folder, SessionSettings(provider="cpu"))
        with np.load(folder.path / folder.manifest.golden[0].file) as case:
            feeds = {name.removeprefix("input."): case[name] for name in case.files if name.startswith("input.")}
            begun = time.perf_counter()
            computed = session.run(feeds)
            seconds = time.perf_counter() - begun
            worst = max(_relative_rms(computed[name], case[f"output.{name}"]) for name in computed)
        print(f"{kind}: {seconds:.1f} s, relative rms {worst:.1e}")  # noqa: T201 - what it is for
        del session
        gc.collect()


def _relative_rms(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.sqrt(np.square(found - expected).mean() / np.square(expected).mean()))


if __name__ == "__main__":
    if sys.argv[1] == "--check":
        check(Path(sys.argv[2]))
    else:
        main(sys.argv[1], Path(sys.argv[2]))
