"""A small U-Net of SD 1.5's plan, with golden cases, and a folder for its copies."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from benchmarks.whole_unet import Geometry, write_whole_unet
from compiler.copies import CompiledCopies
from compiler.settings import CompilerSettings
from components.folder import ComponentFolder, record_files, write_manifest
from components.manifest import GoldenCase
from runtime.feeds import Feeds
from runtime.session import Session
from runtime.settings import SessionSettings

CPU = SessionSettings(threads=1, provider="cpu")
SMALL = Geometry(channels=(32, 64), resnets=1, attending=1)


def noise(rows: int, seed: int = 0) -> Feeds:
    rng = np.random.default_rng(seed)
    return {
        "latents": rng.standard_normal((rows, 4, 8, 16), np.float32),
        "timestep": rng.uniform(0, 999, rows).astype(np.float32),
        "hidden_states": rng.standard_normal((rows, 77, 768), np.float32),
    }


def with_golden(folder: ComponentFolder, offset: float = 0.0) -> ComponentFolder:
    """The folder with one golden case, which is off by `offset`."""
    feeds = noise(2)
    outputs = Session.open(folder, CPU).run(feeds)
    arrays = {f"input.{name}": array for name, array in feeds.items()}
    arrays |= {f"output.{name}": array + np.float32(offset) for name, array in outputs.items()}
    np.savez(folder.path / "golden-0.npz", allow_pickle=False, **arrays)
    golden = (GoldenCase(file="golden-0.npz", tolerance=1e-4),)
    changes = {"golden": golden, "files": record_files(folder.path)}
    return write_manifest(folder.path, folder.manifest.model_copy(update=changes))


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("original") / "denoiser"
    path.mkdir()
    folder = write_whole_unet(path, SMALL)
    contract = folder.manifest.contract.model_copy(update={"latent_size": (8, 8)})
    return with_golden(write_manifest(path, folder.manifest.model_copy(update={"contract": contract}))).path


@pytest.fixture
def component(original: Path, tmp_path: Path) -> ComponentFolder:
    shutil.copytree(original, tmp_path / "denoiser")
    return ComponentFolder.open(tmp_path / "denoiser")


@pytest.fixture
def settings(tmp_path: Path) -> CompilerSettings:
    return CompilerSettings(folder=tmp_path / "compiled", min_free_bytes=0, min_weight_bytes=0)


@pytest.fixture
def copies(settings: CompilerSettings) -> CompiledCopies:
    return CompiledCopies(settings)


def names(folder: Path) -> list[str]:
    """What lies in a folder of copies, but for locks."""
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")
